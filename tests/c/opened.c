/* A host that knows the header only: it opens the library at run time and finds every function in the table. */

#include "opened.h"

int main(void) {
    void* library;
    const kasmina_api* api = open_library(KASMINA_LIBRARY, &library);
    get_api_function get_api;
    *(void**)&get_api = dlsym(library, "kasmina_get_api");
    CHECK(get_api(0) == NULL && get_api(KASMINA_ABI_VERSION + 1) == NULL);
    CHECK(api->abi_version() == KASMINA_ABI_VERSION);
    CHECK(strcmp(api->version(), KASMINA_VERSION) == 0);

    const kasmina_layer layer = germinated_layer(api);
    kasmina_error* error = NULL;
    CHECK(pass_on(api, layer) == KASMINA_STATUS_OK);
    expect(api, KASMINA_STATUS_OK, api->layer_destroy(layer, &error), error);
    expect(api, KASMINA_STATUS_INVALID_HANDLE, api->layer_destroy(layer, &error), error);

    /* Linked so that it stays: its functions work after dlclose, in a process that opens it a hundred times. */
    for (int i = 0; i < 100; ++i) {
        CHECK(dlclose(library) == 0);
        CHECK(api->abi_version() == KASMINA_ABI_VERSION);
        library = dlopen(KASMINA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
        CHECK(library != NULL);
    }
    return dlclose(library);
}
