/* A forked child has the memory of its parent but none of its threads. It compiles and runs kernels all the same, with
 * the layer it inherited and with one of its own, and the parent goes on as before. */

#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

/* Enough work for the threads of the CPU backend. */
enum { SEEDS = 64, CHUNK = 64, HIDDEN = SEEDS * CHUNK, ROWS = 1024 };

static const int64_t SHAPE[] = {ROWS, HIDDEN};

static kasmina_layer make_layer(kasmina_data_type type) {
    const kasmina_layer_config config = {.struct_size = sizeof config,
                                         .hidden = HIDDEN,
                                         .seeds = SEEDS,
                                         .device_type = KASMINA_DEVICE_TYPE_CPU,
                                         .parameter_type = type};
    kasmina_layer layer;
    OK(kasmina_layer_create(&config, &layer, &error));
    return layer;
}

/* Kernels asked for and found or compiled so far in this process. */
static uint64_t kernels(void) {
    kasmina_statistics statistics = {.struct_size = sizeof statistics};
    OK(kasmina_get_statistics(&statistics, &error));
    return statistics.compiled + statistics.disk_hits + statistics.memory_hits;
}

/* A layer of dormant seeds passes its input on. */
static void forward(kasmina_layer layer, kasmina_data_type type, void* x, void* y, size_t bytes) {
    const kasmina_tensor x_tensor = tensor(x, type, 2, SHAPE), y_tensor = tensor(y, type, 2, SHAPE);
    const kasmina_forward arguments = {.struct_size = sizeof arguments, .x = &x_tensor, .y = &y_tensor};
    memset(y, 0xff, bytes);
    OK(kasmina_layer_forward(layer, &arguments, NULL, &error));
    CHECK(memcmp(x, y, bytes) == 0);
}

int main(void) {
    const size_t count = (size_t)ROWS * HIDDEN, bytes = count * sizeof(float), wide_bytes = count * sizeof(double);
    float *x = malloc(bytes), *y = malloc(bytes);
    double *wide_x = malloc(wide_bytes), *wide_y = malloc(wide_bytes);
    CHECK(x && y && wide_x && wide_y);
    for (size_t i = 0; i < count; ++i) {
        wide_x[i] = x[i] = (float)(i % 1000) - 500.0f;
    }
    kasmina_layer layer = make_layer(KASMINA_DATA_TYPE_F32);
    forward(layer, KASMINA_DATA_TYPE_F32, x, y, bytes);
    CHECK(kernels() > 0);

    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60); /* A child that waits for a thread it does not have would wait for ever. */
        forward(layer, KASMINA_DATA_TYPE_F32, x, y, bytes);
        CHECK(kernels() == 0); /* The inherited kernel is loaded; nothing was asked for yet. */
        kasmina_layer own = make_layer(KASMINA_DATA_TYPE_F64);
        forward(own, KASMINA_DATA_TYPE_F64, wide_x, wide_y, wide_bytes);
        CHECK(kernels() == 1);
        OK(kasmina_layer_destroy(own, &error));
        exit(0);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    forward(layer, KASMINA_DATA_TYPE_F32, x, y, bytes);
    OK(kasmina_layer_destroy(layer, &error));
    free(x), free(y), free(wide_x), free(wide_y);
    puts("a forked child compiles and runs kernels, and so does its parent");
    return 0;
}
