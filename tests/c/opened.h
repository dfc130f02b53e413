/* What a host does that opens the library at run time. */

#ifndef KASMINA_TESTS_OPENED_H
#define KASMINA_TESTS_OPENED_H

#include "check.h"

#include <dlfcn.h>
#include <math.h>
#include <time.h>

typedef const kasmina_api* (*get_api_function)(uint32_t);

static inline void expect(const kasmina_api* api, kasmina_status expected, kasmina_status status,
                          kasmina_error* error) {
    if (status != expected) {
        fprintf(stderr, "status %d: %s\n", (int)status, api->error_message(error));
        exit(1);
    }
    api->error_destroy(error);
}

/* The functions of the library at this path. */
static inline const kasmina_api* open_library(const char* path, void** library) {
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    /* ISO C has no conversion from an object pointer to a function pointer; POSIX says it is one. */
    get_api_function get_api;
    *(void**)&get_api = dlsym(*library, "kasmina_get_api");
    CHECK(get_api != NULL);
    const kasmina_api* api = get_api(KASMINA_ABI_VERSION);
    CHECK(api != NULL && api->struct_size == sizeof(kasmina_api));
    return api;
}

/* A layer with a seed for each of some blueprints of the library, all of which wait for their kernels. */
enum { BLUEPRINTS = 6, WIDTH = 32, CHANNELS = BLUEPRINTS * WIDTH, BATCH = 4 };

static inline kasmina_command command_for(uint32_t seed, kasmina_action action) {
    const kasmina_command command = {.struct_size = sizeof command,
                                     .seed = seed,
                                     .action = action,
                                     .blueprint = (int32_t)seed,
                                     .validation_delta = NAN,
                                     .stability = NAN,
                                     .improvement = NAN,
                                     .error_rate = NAN};
    return command;
}

static inline kasmina_layer germinated_layer(const kasmina_api* api) {
    static const char* const NAMES[BLUEPRINTS] = {"residual",   "attention", "mlp",
                                                  "bottleneck", "low_rank",  "squeeze_excite"};
    kasmina_error* error = NULL;
    const kasmina_layer_config config = {.struct_size = sizeof config,
                                         .hidden = CHANNELS,
                                         .seeds = BLUEPRINTS,
                                         .device_type = KASMINA_DEVICE_TYPE_CPU,
                                         .parameter_type = KASMINA_DATA_TYPE_F32};
    kasmina_layer layer;
    expect(api, KASMINA_STATUS_OK, api->layer_create(&config, &layer, &error), error);
    kasmina_command commands[BLUEPRINTS];
    for (uint32_t seed = 0; seed < BLUEPRINTS; ++seed) {
        kasmina_blueprint blueprint;
        uint32_t index;
        expect(api, KASMINA_STATUS_OK, api->blueprint_from_library(NAMES[seed], WIDTH, NULL, &blueprint, &error),
               error);
        expect(api, KASMINA_STATUS_OK, api->layer_add_blueprint(layer, blueprint, 1, &index, &error), error);
        expect(api, KASMINA_STATUS_OK, api->blueprint_destroy(blueprint, &error), error);
        commands[seed] = command_for(seed, KASMINA_ACTION_GERMINATE);
    }
    expect(api, KASMINA_STATUS_OK, api->layer_submit(layer, commands, BLUEPRINTS, &error), error);
    expect(api, KASMINA_STATUS_OK, api->layer_end_epoch(layer, NULL, NULL, &error), error);
    return layer;
}

/* Ends epochs until the first seed trains. */
static inline void train_first(const kasmina_api* api, kasmina_layer layer) {
    const kasmina_command command = command_for(0, KASMINA_ACTION_START_TRAINING);
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    kasmina_error* error = NULL;
    for (int epoch = 0; epoch < 2000; ++epoch) {
        const kasmina_status status = api->layer_submit(layer, &command, 1, NULL);
        expect(api, KASMINA_STATUS_OK, api->layer_end_epoch(layer, NULL, NULL, &error), error);
        if (status == KASMINA_STATUS_OK) {
            return;
        }
        nanosleep(&pause, NULL);
    }
    expect(api, KASMINA_STATUS_OK, api->layer_submit(layer, &command, 1, &error), error);
}

/* The status of a forward pass over rows that a layer without applied blueprints passes on. */
static inline kasmina_status pass_on(const kasmina_api* api, kasmina_layer layer) {
    static const int64_t SHAPE[] = {BATCH, CHANNELS};
    float x[BATCH * CHANNELS], y[BATCH * CHANNELS] = {0};
    for (int i = 0; i < BATCH * CHANNELS; ++i) {
        x[i] = 0.25f * (float)i - 2.0f;
    }
    const kasmina_tensor x_tensor = tensor(x, KASMINA_DATA_TYPE_F32, 2, SHAPE);
    const kasmina_tensor y_tensor = tensor(y, KASMINA_DATA_TYPE_F32, 2, SHAPE);
    const kasmina_forward arguments = {.struct_size = sizeof arguments, .x = &x_tensor, .y = &y_tensor};
    const kasmina_status status = api->layer_forward(layer, &arguments, NULL, NULL);
    CHECK(status != KASMINA_STATUS_OK || memcmp(x, y, sizeof x) == 0);
    return status;
}

#endif
