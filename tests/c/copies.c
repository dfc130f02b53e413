/* Two copies of the library in one process, as two plug-ins bring them along: each has its own layers and statistics,
 * they compile each kernel once between them, and one goes on when the other has ended. */

#include "opened.h"

#include <pthread.h>
#include <unistd.h>

/* What one copy does on its own thread. */
typedef struct {
    const kasmina_api* api;
    kasmina_layer layer;
} copy;

static void* use(void* argument) {
    copy* self = argument;
    self->layer = germinated_layer(self->api);
    train_first(self->api, self->layer);
    CHECK(pass_on(self->api, self->layer) == KASMINA_STATUS_OK);
    return NULL;
}

static void copy_file(const char* from, const char* to) {
    static char bytes[1 << 16];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    CHECK(in && out);
    for (size_t count; (count = fread(bytes, 1, sizeof bytes, in)) > 0;) {
        CHECK(fwrite(bytes, 1, count, out) == count);
    }
    CHECK(fclose(in) == 0 && fclose(out) == 0);
}

static kasmina_statistics statistics_of(const kasmina_api* api) {
    kasmina_statistics statistics = {.struct_size = sizeof statistics};
    kasmina_error* error = NULL;
    expect(api, KASMINA_STATUS_OK, api->get_statistics(&statistics, &error), error);
    return statistics;
}

int main(void) {
    char place[] = "/tmp/kasmina-copies-XXXXXX", path[64];
    CHECK(mkdtemp(place) != NULL && setenv("KASMINA_CACHE_DIR", place, 1) == 0);
    snprintf(path, sizeof path, "%s/libkasmina.so", place);
    copy_file(KASMINA_LIBRARY, path);

    void* libraries[2];
    copy copies[2] = {{.api = open_library(KASMINA_LIBRARY, &libraries[0])},
                      {.api = open_library(path, &libraries[1])}};
    CHECK(copies[0].api != copies[1].api);
    pthread_t threads[2];
    for (int i = 0; i < 2; ++i) {
        CHECK(pthread_create(&threads[i], NULL, use, &copies[i]) == 0);
    }
    for (int i = 0; i < 2; ++i) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }

    const kasmina_statistics one = statistics_of(copies[0].api), other = statistics_of(copies[1].api);
    const uint64_t kernels = one.compiled + one.disk_hits;
    CHECK(kernels > 0 && other.compiled + other.disk_hits == kernels);
    CHECK(one.compiled + other.compiled == kernels); /* each once, by whichever was first */
    CHECK(one.disk_errors == 0 && other.disk_errors == 0);

    kasmina_error* error = NULL;
    expect(copies[0].api, KASMINA_STATUS_OK, copies[0].api->shutdown(&error), error);
    CHECK(pass_on(copies[0].api, copies[0].layer) == KASMINA_STATUS_INVALID_HANDLE);
    CHECK(dlclose(libraries[0]) == 0);
    CHECK(pass_on(copies[1].api, copies[1].layer) == KASMINA_STATUS_OK);
    expect(copies[1].api, KASMINA_STATUS_OK, copies[1].api->layer_destroy(copies[1].layer, &error), error);
    CHECK(dlclose(libraries[1]) == 0);
    snprintf(path, sizeof path, "rm -rf %s", place);
    CHECK(system(path) == 0);
    puts("two copies of the library share a process and a cache and nothing else");
    return 0;
}
