/* One good call of every function that can fail, so that tests can spoil one thing at a time. */

#ifndef KASMINA_TESTS_CALLS_H
#define KASMINA_TESTS_CALLS_H

#include "check.h"

#include <math.h>

enum { HIDDEN = 9, SEEDS = 2, CHUNK = 4, ROWS = 3, CAPACITY = 2, PARAMETERS = 5 };

static const char* const CHECKPOINT = "kasmina_test_calls.safetensors";
static const char* const JSON =
    "{\"ir_version\": 1, \"name\": \"scale\", \"chunk\": 4, \"parameters\": ["
    "{\"name\": \"w\", \"shape\": [4]}, {\"name\": \"s\", \"shape\": []}], \"nodes\": ["
    "{\"name\": \"scaled\", \"op\": \"mul\", \"inputs\": [\"w\", \"s\"]}, "
    "{\"name\": \"y\", \"op\": \"add\", \"inputs\": [\"x\", \"scaled\"]}], \"output\": \"y\"}";

/* What calls are made with. */
typedef struct {
    kasmina_layer layer;
    kasmina_blueprint blueprint, other_blueprint;
    kasmina_memory memory;
    kasmina_snapshot snapshot;
    float x[ROWS * HIDDEN], y[ROWS * HIDDEN], output_gradient[ROWS * HIDDEN], bank[CAPACITY * PARAMETERS];
    kasmina_tensor x_tensor, y_tensor, output_gradient_tensor, bank_tensor;
    const kasmina_tensor* banks[1];
} world;

static const int64_t ROWS_SHAPE[] = {ROWS, HIDDEN};
static const int64_t BANK_SHAPE[] = {CAPACITY, PARAMETERS};

static inline kasmina_layer_config good_config(void) {
    const kasmina_layer_config config = {.struct_size = sizeof config,
                                         .hidden = HIDDEN,
                                         .seeds = SEEDS,
                                         .device_type = KASMINA_DEVICE_TYPE_CPU,
                                         .parameter_type = KASMINA_DATA_TYPE_F32,
                                         .settings = "{\"ramp_steps\": 2}"};
    return config;
}

static inline kasmina_command good_command(void) {
    const kasmina_command command = {.struct_size = sizeof command,
                                     .action = KASMINA_ACTION_GERMINATE,
                                     .validation_delta = NAN,
                                     .stability = NAN,
                                     .improvement = NAN,
                                     .error_rate = NAN};
    return command;
}

static inline kasmina_forward good_forward(const world* w) {
    const kasmina_forward forward = {.struct_size = sizeof forward, .x = &w->x_tensor, .y = &w->y_tensor};
    return forward;
}

static inline kasmina_backward good_backward(const world* w) {
    const kasmina_backward backward = {.struct_size = sizeof backward,
                                       .x = &w->x_tensor,
                                       .output_gradient = &w->output_gradient_tensor,
                                       .input_gradient = &w->y_tensor,
                                       .bank_gradients = w->banks,
                                       .bank_gradient_count = 1};
    return backward;
}

static inline kasmina_adamw good_adamw(const world* w) {
    const kasmina_adamw adamw = {.struct_size = sizeof adamw,
                                 .gradient = &w->bank_tensor,
                                 .learning_rate = 1e-3,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .epsilon = 1e-8};
    return adamw;
}

static inline void make_world(world* w) {
    memset(w, 0, sizeof *w);
    for (int i = 0; i < ROWS * HIDDEN; ++i) {
        w->x[i] = w->output_gradient[i] = 0.5f * (float)i - 3.0f;
    }
    w->x_tensor = tensor(w->x, KASMINA_DATA_TYPE_F32, 2, ROWS_SHAPE);
    w->y_tensor = tensor(w->y, KASMINA_DATA_TYPE_F32, 2, ROWS_SHAPE);
    w->output_gradient_tensor = tensor(w->output_gradient, KASMINA_DATA_TYPE_F32, 2, ROWS_SHAPE);
    w->bank_tensor = tensor(w->bank, KASMINA_DATA_TYPE_F32, 2, BANK_SHAPE);
    w->banks[0] = &w->bank_tensor;

    const kasmina_layer_config config = good_config();
    kasmina_tensor exported = {.struct_size = sizeof exported};
    uint32_t index;
    OK(kasmina_layer_create(&config, &w->layer, &error));
    OK(kasmina_blueprint_from_library("residual", CHUNK, NULL, &w->blueprint, &error));
    OK(kasmina_blueprint_from_library("attention", CHUNK, "{}", &w->other_blueprint, &error));
    OK(kasmina_layer_add_blueprint(w->layer, w->blueprint, CAPACITY, &index, &error));
    OK(kasmina_layer_export_array(w->layer, KASMINA_LAYER_ARRAY_ALPHA, &w->memory, &exported, &error));
    OK(kasmina_snapshot_create(w->layer, NULL, &w->snapshot, &error));
}

static inline void end_world(world* w) {
    OK(kasmina_snapshot_destroy(w->snapshot, &error));
    OK(kasmina_memory_release(w->memory, &error));
    OK(kasmina_blueprint_destroy(w->other_blueprint, &error));
    OK(kasmina_blueprint_destroy(w->blueprint, &error));
    OK(kasmina_layer_destroy(w->layer, &error));
}

/* ---- the calls ---- */

static inline void ignore_log(int32_t level, const char* message, void* user_data) {
    (void)level, (void)message, (void)user_data;
}

static inline kasmina_status call_set_log(world* w, kasmina_error** error) {
    return kasmina_set_log(ignore_log, w, KASMINA_LOG_LEVEL_ERROR, error);
}

static inline kasmina_status call_get_statistics(world* w, kasmina_error** error) {
    (void)w;
    kasmina_statistics statistics = {.struct_size = sizeof statistics};
    return kasmina_get_statistics(&statistics, error);
}

static inline kasmina_status call_blueprint_from_json(world* w, kasmina_error** error) {
    (void)w;
    kasmina_blueprint blueprint;
    return kasmina_blueprint_from_json(JSON, strlen(JSON), &blueprint, error);
}

static inline kasmina_status call_blueprint_from_library(world* w, kasmina_error** error) {
    (void)w;
    kasmina_blueprint blueprint;
    return kasmina_blueprint_from_library("mlp", CHUNK, NULL, &blueprint, error);
}

static inline kasmina_status call_blueprint_to_json(world* w, kasmina_error** error) {
    kasmina_bytes* json = NULL;
    const kasmina_status status = kasmina_blueprint_to_json(w->blueprint, &json, error);
    kasmina_bytes_destroy(json);
    return status;
}

static inline kasmina_status call_blueprint_hash(world* w, kasmina_error** error) {
    uint8_t hash[32];
    return kasmina_blueprint_hash(w->blueprint, hash, error);
}

static inline kasmina_status call_blueprint_chunk(world* w, kasmina_error** error) {
    uint64_t chunk;
    return kasmina_blueprint_chunk(w->blueprint, &chunk, error);
}

static inline kasmina_status call_blueprint_parameter_count(world* w, kasmina_error** error) {
    uint64_t count;
    return kasmina_blueprint_parameter_count(w->blueprint, &count, error);
}

static inline kasmina_status call_blueprint_initial_values(world* w, kasmina_error** error) {
    double values[CHUNK + 1];
    return kasmina_blueprint_initial_values(w->blueprint, 1, values, CHUNK + 1, error);
}

static inline kasmina_status call_layer_create(world* w, kasmina_error** error) {
    (void)w;
    const kasmina_layer_config config = good_config();
    kasmina_layer layer;
    return kasmina_layer_create(&config, &layer, error);
}

static inline kasmina_status call_layer_get_info(world* w, kasmina_error** error) {
    kasmina_layer_info info = {.struct_size = sizeof info};
    return kasmina_layer_get_info(w->layer, &info, error);
}

static inline kasmina_status call_layer_add_blueprint(world* w, kasmina_error** error) {
    uint32_t index;
    return kasmina_layer_add_blueprint(w->layer, w->other_blueprint, CAPACITY, &index, error);
}

static inline kasmina_status call_layer_prepare(world* w, kasmina_error** error) {
    return kasmina_layer_prepare(w->layer, KASMINA_DATA_TYPE_F32, KASMINA_ALPHA_GRADIENT, error);
}

static inline kasmina_status call_layer_wait_for_kernels(world* w, kasmina_error** error) {
    return kasmina_layer_wait_for_kernels(w->layer, error);
}

static inline kasmina_status call_layer_state(world* w, kasmina_error** error) {
    kasmina_bytes* state = NULL;
    const kasmina_status status = kasmina_layer_state(w->layer, &state, error);
    kasmina_bytes_destroy(state);
    return status;
}

static inline kasmina_status call_layer_report(world* w, kasmina_error** error) {
    kasmina_bytes* report = NULL;
    const kasmina_status status = kasmina_layer_report(w->layer, &report, error);
    kasmina_bytes_destroy(report);
    return status;
}

static inline kasmina_status call_layer_save(world* w, kasmina_error** error) {
    return kasmina_layer_save(w->layer, CHECKPOINT, NULL, error);
}

static inline kasmina_status call_layer_load(world* w, kasmina_error** error) {
    (void)w;
    kasmina_layer layer;
    return kasmina_layer_load(CHECKPOINT, KASMINA_DEVICE_TYPE_CPU, 0, &layer, error);
}

static inline kasmina_status call_layer_to_bytes(world* w, kasmina_error** error) {
    kasmina_bytes* bytes = NULL;
    const kasmina_status status = kasmina_layer_to_bytes(w->layer, NULL, &bytes, error);
    kasmina_bytes_destroy(bytes);
    return status;
}

static inline kasmina_status call_layer_from_bytes(world* w, kasmina_error** error) {
    kasmina_bytes* bytes = NULL;
    kasmina_layer layer;
    /* If the layer cannot be written, the bytes stay NULL. */
    kasmina_layer_to_bytes(w->layer, NULL, &bytes, NULL);
    const kasmina_status status = kasmina_layer_from_bytes(kasmina_bytes_data(bytes), kasmina_bytes_length(bytes),
                                                           KASMINA_DEVICE_TYPE_CPU, 0, &layer, error);
    kasmina_bytes_destroy(bytes);
    return status;
}

static inline kasmina_status call_layer_copy(world* w, kasmina_error** error) {
    kasmina_layer copy;
    return kasmina_layer_copy(w->layer, KASMINA_DEVICE_TYPE_CPU, 0, KASMINA_DATA_TYPE_F64, NULL, &copy, error);
}

static inline kasmina_status call_layer_submit(world* w, kasmina_error** error) {
    const kasmina_command command = good_command();
    return kasmina_layer_submit(w->layer, &command, 1, error);
}

static inline int32_t hold(const kasmina_grafting* seen, double* memory, double* increment, void* user_data) {
    (void)seen, (void)memory, (void)increment, (void)user_data;
    return 0;
}

static inline kasmina_status call_layer_set_strategy(world* w, kasmina_error** error) {
    return kasmina_layer_set_strategy(w->layer, hold, w, error);
}

static inline kasmina_status call_layer_set_metric(world* w, kasmina_error** error) {
    return kasmina_layer_set_metric(w->layer, 0.5, error);
}

static inline kasmina_status call_layer_set_time(world* w, kasmina_error** error) {
    return kasmina_layer_set_time(w->layer, 7.0, error);
}

static inline kasmina_status call_layer_end_epoch(world* w, kasmina_error** error) {
    kasmina_bytes* summary = NULL;
    const kasmina_status status = kasmina_layer_end_epoch(w->layer, NULL, &summary, error);
    kasmina_bytes_destroy(summary);
    return status;
}

static inline kasmina_status call_layer_roll_back(world* w, kasmina_error** error) {
    return kasmina_layer_roll_back(w->layer, 1, "no reason", NULL, error);
}

static inline kasmina_status call_snapshot_create(world* w, kasmina_error** error) {
    /* The world's own one is of the layer as it was before it got another blueprint. */
    kasmina_snapshot snapshot;
    const kasmina_status status = kasmina_snapshot_create(w->layer, NULL, &snapshot, error);
    if (status == KASMINA_STATUS_OK) {
        kasmina_snapshot_destroy(w->snapshot, NULL);
        w->snapshot = snapshot;
    }
    return status;
}

static inline kasmina_status call_snapshot_take(world* w, kasmina_error** error) {
    return kasmina_snapshot_take(w->snapshot, w->layer, NULL, error);
}

static inline kasmina_status call_snapshot_get_info(world* w, kasmina_error** error) {
    kasmina_snapshot_info info = {.struct_size = sizeof info};
    return kasmina_snapshot_get_info(w->snapshot, &info, error);
}

static inline kasmina_status call_layer_restore(world* w, kasmina_error** error) {
    kasmina_bytes* restoration = NULL;
    const kasmina_status status = kasmina_layer_restore(w->layer, w->snapshot, "no reason", NULL, &restoration, error);
    kasmina_bytes_destroy(restoration);
    return status;
}

static inline kasmina_status call_loss_guard_judge(world* w, kasmina_error** error) {
    (void)w;
    kasmina_loss_guard guard = {.struct_size = sizeof guard};
    kasmina_bytes* reason = NULL;
    const kasmina_status status = kasmina_loss_guard_judge(&guard, NAN, &reason, error);
    kasmina_bytes_destroy(reason);
    return status;
}

static inline kasmina_status call_layer_export_array(world* w, kasmina_error** error) {
    kasmina_memory memory;
    kasmina_tensor exported = {.struct_size = sizeof exported};
    return kasmina_layer_export_array(w->layer, KASMINA_LAYER_ARRAY_LIFECYCLE, &memory, &exported, error);
}

static inline kasmina_status call_layer_export_bank(world* w, kasmina_error** error) {
    kasmina_memory memory;
    kasmina_tensor exported = {.struct_size = sizeof exported};
    return kasmina_layer_export_bank(w->layer, 0, KASMINA_BANK_ARRAY_MODE, &memory, &exported, error);
}

static inline kasmina_status call_memory_retain(world* w, kasmina_error** error) {
    kasmina_memory retained;
    return kasmina_memory_retain(w->memory, &retained, error);
}

static inline kasmina_status call_layer_forward(world* w, kasmina_error** error) {
    const kasmina_forward forward = good_forward(w);
    return kasmina_layer_forward(w->layer, &forward, NULL, error);
}

static inline kasmina_status call_layer_backward(world* w, kasmina_error** error) {
    const kasmina_backward backward = good_backward(w);
    return kasmina_layer_backward(w->layer, &backward, NULL, error);
}

static inline kasmina_status call_layer_train(world* w, kasmina_error** error) {
    const kasmina_train train = {.struct_size = sizeof train, .x = &w->x_tensor};
    return kasmina_layer_train(w->layer, &train, NULL, error);
}

static inline kasmina_status call_layer_adamw(world* w, kasmina_error** error) {
    const kasmina_adamw adamw = good_adamw(w);
    return kasmina_layer_adamw(w->layer, &adamw, NULL, error);
}

static inline kasmina_status call_layer_destroy(world* w, kasmina_error** error) {
    return kasmina_layer_destroy(w->layer, error);
}

static inline kasmina_status call_blueprint_destroy(world* w, kasmina_error** error) {
    return kasmina_blueprint_destroy(w->blueprint, error);
}

static inline kasmina_status call_memory_release(world* w, kasmina_error** error) {
    return kasmina_memory_release(w->memory, error);
}

static inline kasmina_status call_snapshot_destroy(world* w, kasmina_error** error) {
    return kasmina_snapshot_destroy(w->snapshot, error);
}

static inline kasmina_status call_shutdown(world* w, kasmina_error** error) {
    (void)w;
    return kasmina_shutdown(error);
}

enum { NOTHING = 0, LAYER = 1, BLUEPRINT = 2, OTHER_BLUEPRINT = 4, MEMORY = 8, SNAPSHOT = 16 };

typedef struct {
    const char* name;
    kasmina_status (*make)(world*, kasmina_error**);
    int takes;   /* the handles that it takes */
    int poisons; /* the handle that a panic in it poisons */
} call;

/* In an order in which all of them succeed, but for the refused rollback. */
static const call CALLS[] = {
    {"kasmina_set_log", call_set_log, NOTHING, NOTHING},
    {"kasmina_get_statistics", call_get_statistics, NOTHING, NOTHING},
    {"kasmina_blueprint_from_json", call_blueprint_from_json, NOTHING, NOTHING},
    {"kasmina_blueprint_from_library", call_blueprint_from_library, NOTHING, NOTHING},
    {"kasmina_blueprint_to_json", call_blueprint_to_json, BLUEPRINT, BLUEPRINT},
    {"kasmina_blueprint_hash", call_blueprint_hash, BLUEPRINT, BLUEPRINT},
    {"kasmina_blueprint_chunk", call_blueprint_chunk, BLUEPRINT, BLUEPRINT},
    {"kasmina_blueprint_parameter_count", call_blueprint_parameter_count, BLUEPRINT, BLUEPRINT},
    {"kasmina_blueprint_initial_values", call_blueprint_initial_values, BLUEPRINT, BLUEPRINT},
    {"kasmina_layer_create", call_layer_create, NOTHING, NOTHING},
    {"kasmina_layer_get_info", call_layer_get_info, LAYER, LAYER},
    {"kasmina_layer_add_blueprint", call_layer_add_blueprint, LAYER | OTHER_BLUEPRINT, OTHER_BLUEPRINT},
    {"kasmina_layer_prepare", call_layer_prepare, LAYER, LAYER},
    {"kasmina_layer_wait_for_kernels", call_layer_wait_for_kernels, LAYER, LAYER},
    {"kasmina_layer_state", call_layer_state, LAYER, LAYER},
    {"kasmina_layer_report", call_layer_report, LAYER, LAYER},
    {"kasmina_layer_save", call_layer_save, LAYER, LAYER},
    {"kasmina_layer_load", call_layer_load, NOTHING, NOTHING},
    {"kasmina_layer_to_bytes", call_layer_to_bytes, LAYER, LAYER},
    {"kasmina_layer_from_bytes", call_layer_from_bytes, NOTHING, NOTHING},
    {"kasmina_layer_copy", call_layer_copy, LAYER, LAYER},
    {"kasmina_layer_submit", call_layer_submit, LAYER, LAYER},
    {"kasmina_layer_set_strategy", call_layer_set_strategy, LAYER, LAYER},
    {"kasmina_layer_set_metric", call_layer_set_metric, LAYER, LAYER},
    {"kasmina_layer_set_time", call_layer_set_time, LAYER, LAYER},
    {"kasmina_layer_end_epoch", call_layer_end_epoch, LAYER, LAYER},
    {"kasmina_layer_roll_back", call_layer_roll_back, LAYER, LAYER},
    {"kasmina_snapshot_create", call_snapshot_create, LAYER, LAYER},
    {"kasmina_snapshot_take", call_snapshot_take, LAYER | SNAPSHOT, LAYER},
    {"kasmina_snapshot_get_info", call_snapshot_get_info, SNAPSHOT, SNAPSHOT},
    {"kasmina_layer_restore", call_layer_restore, LAYER | SNAPSHOT, LAYER},
    {"kasmina_loss_guard_judge", call_loss_guard_judge, NOTHING, NOTHING},
    {"kasmina_layer_export_array", call_layer_export_array, LAYER, LAYER},
    {"kasmina_layer_export_bank", call_layer_export_bank, LAYER, LAYER},
    {"kasmina_memory_retain", call_memory_retain, MEMORY, MEMORY},
    {"kasmina_layer_forward", call_layer_forward, LAYER, LAYER},
    {"kasmina_layer_train", call_layer_train, LAYER, LAYER},
    {"kasmina_layer_adamw", call_layer_adamw, LAYER, LAYER},
    {"kasmina_layer_backward", call_layer_backward, LAYER, LAYER},
    {"kasmina_layer_destroy", call_layer_destroy, LAYER, NOTHING},
    {"kasmina_blueprint_destroy", call_blueprint_destroy, BLUEPRINT, NOTHING},
    {"kasmina_memory_release", call_memory_release, MEMORY, NOTHING},
    {"kasmina_snapshot_destroy", call_snapshot_destroy, SNAPSHOT, NOTHING},
    {"kasmina_shutdown", call_shutdown, NOTHING, NOTHING},
};
enum { CALL_COUNT = sizeof CALLS / sizeof *CALLS };

static inline const call* find_call(const char* name) {
    const call* found = CALLS;
    while (strcmp(found->name, name) != 0) {
        ++found;
    }
    return found;
}

static inline void expect_call(const call* call, world* w, kasmina_status expected) {
    kasmina_error* error = NULL;
    const kasmina_status status = call->make(w, &error);
    check_outcome(expected, status, error, call->name, __LINE__);
}

#endif
