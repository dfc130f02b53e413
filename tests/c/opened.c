/* A host that knows the header only: it opens the library at run time and finds every function in the table. */

#include "check.h"

#include <dlfcn.h>

typedef const kasmina_api* (*get_api_function)(uint32_t);

static void expect(const kasmina_api* api, kasmina_status expected, kasmina_status status, kasmina_error* error) {
    if (status != expected) {
        fprintf(stderr, "status %d: %s\n", (int)status, api->error_message(error));
        exit(1);
    }
    api->error_destroy(error);
}

static kasmina_layer make_layer(const kasmina_api* api) {
    kasmina_error* error = NULL;
    const kasmina_layer_config config = {.struct_size = sizeof config,
                                         .hidden = 8,
                                         .seeds = 2,
                                         .device_type = KASMINA_DEVICE_TYPE_CPU,
                                         .parameter_type = KASMINA_DATA_TYPE_F32};
    kasmina_layer layer;
    expect(api, KASMINA_STATUS_OK, api->layer_create(&config, &layer, &error), error);
    kasmina_blueprint blueprint;
    uint32_t index;
    expect(api, KASMINA_STATUS_OK, api->blueprint_from_library("residual", 4, NULL, &blueprint, &error), error);
    expect(api, KASMINA_STATUS_OK, api->layer_add_blueprint(layer, blueprint, 1, &index, &error), error);
    expect(api, KASMINA_STATUS_OK, api->blueprint_destroy(blueprint, &error), error);
    return layer;
}

int main(void) {
    void* library = dlopen(KASMINA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    /* ISO C has no conversion from an object pointer to a function pointer; POSIX says it is one. */
    get_api_function get_api;
    *(void**)&get_api = dlsym(library, "kasmina_get_api");
    CHECK(get_api != NULL);
    CHECK(get_api(0) == NULL && get_api(KASMINA_ABI_VERSION + 1) == NULL);
    const kasmina_api* api = get_api(KASMINA_ABI_VERSION);
    CHECK(api != NULL && api->struct_size == sizeof(kasmina_api));
    CHECK(api->abi_version() == KASMINA_ABI_VERSION);
    CHECK(strcmp(api->version(), KASMINA_VERSION) == 0);

    const kasmina_layer layer = make_layer(api);
    const int64_t shape[] = {3, 8};
    float x[24], y[24] = {0};
    for (int i = 0; i < 24; ++i) {
        x[i] = 0.25f * (float)i - 2.0f;
    }
    const kasmina_tensor x_tensor = tensor(x, KASMINA_DATA_TYPE_F32, 2, shape);
    const kasmina_tensor y_tensor = tensor(y, KASMINA_DATA_TYPE_F32, 2, shape);
    const kasmina_forward arguments = {.struct_size = sizeof arguments, .x = &x_tensor, .y = &y_tensor};
    kasmina_error* error = NULL;
    expect(api, KASMINA_STATUS_OK, api->layer_forward(layer, &arguments, NULL, &error), error);
    CHECK(memcmp(x, y, sizeof x) == 0);
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
