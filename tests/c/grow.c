/* A layer grows: from a blueprint in JSON through germination, isolated training and grafting to one step of the host's
 * optimiser. All numbers are compared with those of a few lines of double precision C that know nothing of kernels. */

#include "check.h"

#include <math.h>
#include <time.h>

enum { HIDDEN = 9, SEEDS = 2, CHUNK = 4, WIDTH = 2, ROWS = 5, CAPACITY = 2, PARAMETERS = 22, SEED = 1 };

/* 9 channels, 2 seeds: channels 0 to 3 are seed 0, 4 to 7 are seed 1, and channel 8 is nobody's. */
static const char* BLUEPRINT =
    "{\"ir_version\": 1, \"name\": \"adapter\", \"chunk\": 4, \"parameters\": ["
    " {\"name\": \"w1\", \"shape\": [2, 4], \"initializer\": \"fan_in\"}, {\"name\": \"b1\", \"shape\": [2]},"
    " {\"name\": \"w2\", \"shape\": [4, 2], \"initializer\": \"fan_in\"}, {\"name\": \"b2\", \"shape\": [4]}],"
    " \"nodes\": [{\"name\": \"inner\", \"op\": \"linear\", \"inputs\": [\"x\", \"w1\", \"b1\"]},"
    " {\"name\": \"h\", \"op\": \"gelu\", \"inputs\": [\"inner\"]},"
    " {\"name\": \"outer\", \"op\": \"linear\", \"inputs\": [\"h\", \"w2\", \"b2\"]},"
    " {\"name\": \"y\", \"op\": \"add\", \"inputs\": [\"x\", \"outer\"]}], \"output\": \"y\"}";

/* Gates wide open, a ramp of four steps. */
static const char* SETTINGS = "{\"ramp_steps\": 4, \"training\": {\"loss_threshold\": 1e9, \"learning_rate\": 0.01}}";

static const int64_t SHAPE[] = {ROWS, HIDDEN};
static const int64_t BANK_SHAPE[] = {CAPACITY, PARAMETERS};

/* ---- the reference ---- */

static void apply(const double* parameters, const double* x, double* y) {
    const double *w1 = parameters, *b1 = w1 + WIDTH * CHUNK, *w2 = b1 + WIDTH, *b2 = w2 + CHUNK * WIDTH;
    double h[WIDTH];
    for (int i = 0; i < WIDTH; ++i) {
        double sum = b1[i];
        for (int j = 0; j < CHUNK; ++j) {
            sum += w1[i * CHUNK + j] * x[j];
        }
        h[i] = 0.5 * sum * (1.0 + erf(sum / sqrt(2.0)));
    }
    for (int i = 0; i < CHUNK; ++i) {
        y[i] = x[i] + b2[i];
        for (int j = 0; j < WIDTH; ++j) {
            y[i] += w2[i * WIDTH + j] * h[j];
        }
    }
}

/* The layer's output when SEED blends with this alpha. */
static void reference(const double* parameters, double alpha, const double* x, double* y) {
    memcpy(y, x, sizeof(double) * ROWS * HIDDEN);
    for (int row = 0; row < ROWS; ++row) {
        const double* chunk = x + row * HIDDEN + SEED * CHUNK;
        double f[CHUNK];
        apply(parameters, chunk, f);
        for (int i = 0; i < CHUNK; ++i) {
            y[row * HIDDEN + SEED * CHUNK + i] = (1.0 - alpha) * chunk[i] + alpha * f[i];
        }
    }
}

static double inner(const double* a, const double* b) {
    double sum = 0.0;
    for (int i = 0; i < ROWS * HIDDEN; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* The derivative of sum(gradient * y) with respect to one number that y is computed from. */
static double derivative(double* number, const double* parameters, const double* alpha, const double* x,
                         const double* gradient) {
    const double step = 1e-5, before = *number;
    double y[ROWS * HIDDEN];
    *number = before + step;
    reference(parameters, *alpha, x, y);
    const double above = inner(gradient, y);
    *number = before - step;
    reference(parameters, *alpha, x, y);
    const double below = inner(gradient, y);
    *number = before;
    return (above - below) / (2.0 * step);
}

static void check_close(const char* what, int index, double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * (1.0 + fabs(expected)))) {
        fprintf(stderr, "%s[%d] is %.17g, but the reference says %.17g\n", what, index, found, expected);
        exit(1);
    }
}

/* ---- the layer ---- */

static void forward(kasmina_layer layer, double* x, double* y) {
    const kasmina_tensor x_tensor = tensor(x, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_tensor y_tensor = tensor(y, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_forward arguments = {.struct_size = sizeof arguments, .x = &x_tensor, .y = &y_tensor};
    OK(kasmina_layer_forward(layer, &arguments, NULL, &error));
}

static void train(kasmina_layer layer, double* x, double* target) {
    const kasmina_tensor x_tensor = tensor(x, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_tensor target_tensor = tensor(target, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_train arguments = {.struct_size = sizeof arguments, .x = &x_tensor, .target = &target_tensor};
    OK(kasmina_layer_train(layer, &arguments, NULL, &error));
}

/* The elements of an array on the CPU; the caller releases the memory. */
static void* array(kasmina_layer layer, kasmina_layer_array which, kasmina_memory* memory) {
    kasmina_tensor exported = {.struct_size = sizeof exported};
    OK(kasmina_layer_export_array(layer, which, memory, &exported, &error));
    CHECK(exported.device_type == KASMINA_DEVICE_TYPE_CPU && exported.shape[0] == SEEDS);
    return exported.data;
}

static void* bank(kasmina_layer layer, kasmina_bank_array which, kasmina_memory* memory) {
    kasmina_tensor exported = {.struct_size = sizeof exported};
    OK(kasmina_layer_export_bank(layer, 0, which, memory, &exported, &error));
    CHECK(exported.device_type == KASMINA_DEVICE_TYPE_CPU && exported.shape[0] == CAPACITY);
    return exported.data;
}

static void release(kasmina_memory memory) {
    OK(kasmina_memory_release(memory, &error));
}

static int32_t state(kasmina_layer layer) {
    kasmina_bytes* bytes = NULL;
    OK(kasmina_layer_state(layer, &bytes, &error));
    CHECK(kasmina_bytes_length(bytes) == SEEDS * 4 * sizeof(int32_t));
    int32_t lifecycle;
    memcpy(&lifecycle, kasmina_bytes_data(bytes) + SEED * 4 * sizeof lifecycle, sizeof lifecycle);
    kasmina_bytes_destroy(bytes);
    return lifecycle;
}

static kasmina_command command(kasmina_action action) {
    const kasmina_command command = {.struct_size = sizeof command,
                                     .seed = SEED,
                                     .action = action,
                                     .validation_delta = NAN,
                                     .stability = NAN,
                                     .improvement = NAN,
                                     .error_rate = NAN,
                                     .reason = "the test wants it"};
    return command;
}

/* Commands the seed and ends epochs until it obeys: a kernel may have to be compiled first. */
static void advance(kasmina_layer layer, kasmina_action action, kasmina_lifecycle next, double* x) {
    const kasmina_command wanted = command(action);
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    for (int epoch = 0; epoch < 1000; ++epoch) {
        train(layer, x, x); /* nothing, unless the seed is training */
        const kasmina_status status = kasmina_layer_submit(layer, &wanted, 1, NULL);
        OK(kasmina_layer_end_epoch(layer, NULL, NULL, &error));
        if (status == KASMINA_STATUS_OK) {
            CHECK(state(layer) == next);
            return;
        }
        nanosleep(&pause, NULL);
    }
    FAILS(KASMINA_STATUS_OK, kasmina_layer_submit(layer, &wanted, 1, &error));
}

static kasmina_blueprint make_blueprint(void) {
    kasmina_blueprint blueprint, again;
    OK(kasmina_blueprint_from_json(BLUEPRINT, strlen(BLUEPRINT), &blueprint, &error));
    uint64_t parameters, chunk;
    OK(kasmina_blueprint_parameter_count(blueprint, &parameters, &error));
    OK(kasmina_blueprint_chunk(blueprint, &chunk, &error));
    CHECK(parameters == PARAMETERS && chunk == CHUNK);

    /* What is written reads back as the same blueprint, and the library has this one under another name. */
    kasmina_bytes* json;
    uint8_t hash[32], hash_again[32];
    OK(kasmina_blueprint_hash(blueprint, hash, &error));
    OK(kasmina_blueprint_to_json(blueprint, &json, &error));
    OK(kasmina_blueprint_from_json(kasmina_bytes_data(json), kasmina_bytes_length(json), &again, &error));
    OK(kasmina_blueprint_hash(again, hash_again, &error));
    CHECK(memcmp(hash, hash_again, sizeof hash) == 0);
    kasmina_bytes_destroy(json);
    OK(kasmina_blueprint_destroy(again, &error));
    OK(kasmina_blueprint_from_library("bottleneck", CHUNK, "{\"width\": 1}", &again, &error));
    OK(kasmina_blueprint_hash(again, hash_again, &error));
    CHECK(memcmp(hash, hash_again, sizeof hash) != 0);
    OK(kasmina_blueprint_destroy(again, &error));
    return blueprint;
}

static kasmina_layer make_layer(void) {
    const kasmina_layer_config config = {.struct_size = sizeof config,
                                         .hidden = HIDDEN,
                                         .seeds = SEEDS,
                                         .device_type = KASMINA_DEVICE_TYPE_CPU,
                                         .parameter_type = KASMINA_DATA_TYPE_F64,
                                         .settings = SETTINGS};
    kasmina_layer layer;
    OK(kasmina_layer_create(&config, &layer, &error));
    const kasmina_blueprint blueprint = make_blueprint();
    uint32_t index = 99;
    OK(kasmina_layer_add_blueprint(layer, blueprint, CAPACITY, &index, &error));
    OK(kasmina_blueprint_destroy(blueprint, &error));
    kasmina_layer_info info = {.struct_size = sizeof info};
    OK(kasmina_layer_get_info(layer, &info, &error));
    CHECK(index == 0 && info.hidden == HIDDEN && info.seeds == SEEDS && info.chunk == CHUNK);
    CHECK(info.blueprint_count == 1 && info.epoch == 0 && info.parameter_type == KASMINA_DATA_TYPE_F64);
    return layer;
}

/* ---- the story ---- */

static void check_identity(kasmina_layer layer, double* x) {
    double y[ROWS * HIDDEN];
    memset(y, 0x55, sizeof y);
    forward(layer, x, y);
    CHECK(memcmp(x, y, sizeof y) == 0);
}

/* A pass that only observes. */
static kasmina_status observe(kasmina_layer layer, double* x, uint32_t flags, kasmina_error** error) {
    const kasmina_tensor x_tensor = tensor(x, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_forward arguments = {.struct_size = sizeof arguments, .x = &x_tensor, .flags = flags};
    return kasmina_layer_forward(layer, &arguments, NULL, error);
}

static uint32_t applies(kasmina_layer layer) {
    kasmina_layer_info info = {.struct_size = sizeof info};
    OK(kasmina_layer_get_info(layer, &info, &error));
    return info.applies;
}

/* Without y, nothing is written. Without telemetry as well, nothing is done. */
static void check_observation(kasmina_layer layer, double* x) {
    double before[ROWS * HIDDEN];
    memcpy(before, x, sizeof before);
    CHECK(applies(layer) == 0);
    OK(observe(layer, x, 0, &error));
    OK(observe(layer, x, KASMINA_NO_TELEMETRY, &error));
    CHECK(memcmp(x, before, sizeof before) == 0);
}

/* A seed that applies a blueprint needs a place for its output; nothing is observed or written. */
static void check_refused_observation(kasmina_layer layer, double* x) {
    double before[ROWS * HIDDEN], seen[SEEDS * 10];
    kasmina_memory memory;
    const double* telemetry = array(layer, KASMINA_LAYER_ARRAY_TELEMETRY, &memory);
    memcpy(before, x, sizeof before);
    memcpy(seen, telemetry, sizeof seen);
    CHECK(applies(layer) == 1);
    for (uint32_t flags = 0; flags <= KASMINA_NO_TELEMETRY; flags += KASMINA_NO_TELEMETRY) {
        kasmina_error* refusal = NULL;
        CHECK(observe(layer, x, flags, &refusal) == KASMINA_STATUS_INVALID_ARGUMENT);
        CHECK(strstr(kasmina_error_message(refusal), "y is missing, but seed 1 applies blueprint 0 (GRAFTING)") !=
              NULL);
        kasmina_error_destroy(refusal);
    }
    CHECK(memcmp(x, before, sizeof before) == 0 && memcmp(telemetry, seen, sizeof seen) == 0);
    release(memory);
}

/* One forward pass of a fresh epoch is observed, whatever the state. */
static void check_telemetry(kasmina_layer layer, double* x, void (*pass)(kasmina_layer, double*)) {
    kasmina_memory memory;
    OK(kasmina_layer_end_epoch(layer, NULL, NULL, &error));
    pass(layer, x);
    const double* seen = (const double*)array(layer, KASMINA_LAYER_ARRAY_TELEMETRY, &memory) + SEED * 10;
    double sum = 0, squares = 0, least = INFINITY, most = -INFINITY, dead = 0, neighbours = 0;
    for (int row = 0; row < ROWS; ++row) {
        const double* chunk = x + row * HIDDEN + SEED * CHUNK;
        for (int i = 0; i < CHUNK; ++i) {
            sum += chunk[i];
            squares += chunk[i] * chunk[i];
            least = fmin(least, chunk[i]);
            most = fmax(most, chunk[i]);
            dead += fabs(chunk[i]) < 1e-6;
            neighbours += i + 1 < CHUNK ? chunk[i] * chunk[i + 1] : 0.0;
        }
    }
    const double expected[] = {ROWS * CHUNK, sum, squares, least, most, dead, neighbours, 0, 0, 0};
    CHECK(dead == 1);
    for (int column = 0; column < 10; ++column) {
        check_close("telemetry", column, seen[column], expected[column], 1e-12);
    }
    release(memory);
}

/* Trains in isolation; the first loss is the reference's, the last one is lower, and the host notices nothing. */
static void check_isolated_training(kasmina_layer layer, double* x) {
    kasmina_memory loss_memory, parameter_memory, slot_memory;
    const double* loss = (const double*)array(layer, KASMINA_LAYER_ARRAY_LOSS, &loss_memory) + SEED * 2;
    const int32_t slot = ((const int32_t*)array(layer, KASMINA_LAYER_ARRAY_SLOT, &slot_memory))[SEED];
    CHECK(slot >= 0 && slot < CAPACITY);
    const double* parameters =
        (const double*)bank(layer, KASMINA_BANK_ARRAY_PARAMETERS, &parameter_memory) + slot * PARAMETERS;
    double target[ROWS * HIDDEN], y[ROWS * HIDDEN], expected = 0.0;
    reference(parameters, 1.0, x, y);
    for (int i = 0; i < ROWS * HIDDEN; ++i) {
        const int channel = i % HIDDEN;
        target[i] = sin(3.0 * x[i]);
        if (channel / CHUNK == SEED && channel < SEEDS * CHUNK) {
            expected += (y[i] - target[i]) * (y[i] - target[i]) / (ROWS * CHUNK);
        }
    }
    train(layer, x, target);
    CHECK(loss[1] == 1.0);
    check_close("loss", 0, loss[0], expected, 1e-12);
    double before = loss[0], last = 0.0;
    for (int step = 1; step < 300; ++step) {
        train(layer, x, target);
        last = loss[0] - before;
        before = loss[0];
    }
    CHECK(loss[1] == 300.0 && last < 0.5 * expected);
    check_identity(layer, x);
    release(loss_memory);
    release(parameter_memory);
    release(slot_memory);
}

/* Forward and backward of the blend, with numbers that make every term count. */
static void check_blend(kasmina_layer layer, double* x, double* bank_gradient) {
    kasmina_memory alpha_memory, parameter_memory, slot_memory;
    const float stored = ((const float*)array(layer, KASMINA_LAYER_ARRAY_ALPHA, &alpha_memory))[SEED];
    const int32_t slot = ((const int32_t*)array(layer, KASMINA_LAYER_ARRAY_SLOT, &slot_memory))[SEED];
    double* parameters = (double*)bank(layer, KASMINA_BANK_ARRAY_PARAMETERS, &parameter_memory) + slot * PARAMETERS;
    CHECK(stored > 0.0f && stored < 1.0f);
    double alpha = stored;
    for (int i = 0; i < PARAMETERS; ++i) {
        parameters[i] = 0.8 * cos(1.0 + i);
    }

    double y[ROWS * HIDDEN], expected[ROWS * HIDDEN], gradient[ROWS * HIDDEN], x_gradient[ROWS * HIDDEN];
    forward(layer, x, y);
    reference(parameters, alpha, x, expected);
    for (int i = 0; i < ROWS * HIDDEN; ++i) {
        check_close("y", i, y[i], expected[i], 1e-12);
        gradient[i] = cos(0.7 * i);
    }
    double in_place[ROWS * HIDDEN];
    memcpy(in_place, x, sizeof in_place);
    forward(layer, in_place, in_place);
    CHECK(memcmp(in_place, y, sizeof y) == 0);

    const int64_t alpha_shape[] = {SEEDS};
    float alpha_gradient[SEEDS] = {0};
    const kasmina_tensor x_tensor = tensor(x, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_tensor gradient_tensor = tensor(gradient, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_tensor x_gradient_tensor = tensor(x_gradient, KASMINA_DATA_TYPE_F64, 2, SHAPE);
    const kasmina_tensor bank_tensor = tensor(bank_gradient, KASMINA_DATA_TYPE_F64, 2, BANK_SHAPE);
    const kasmina_tensor alpha_tensor = tensor(alpha_gradient, KASMINA_DATA_TYPE_F32, 1, alpha_shape);
    const kasmina_tensor* bank_gradients[] = {&bank_tensor};
    const kasmina_backward arguments = {.struct_size = sizeof arguments,
                                        .x = &x_tensor,
                                        .output_gradient = &gradient_tensor,
                                        .input_gradient = &x_gradient_tensor,
                                        .bank_gradients = bank_gradients,
                                        .bank_gradient_count = 1,
                                        .alpha_gradient = &alpha_tensor};
    OK(kasmina_layer_backward(layer, &arguments, NULL, &error));
    double copy[PARAMETERS];
    memcpy(copy, parameters, sizeof copy);
    for (int i = 0; i < ROWS * HIDDEN; ++i) {
        check_close("dx", i, x_gradient[i], derivative(x + i, copy, &alpha, x, gradient), 1e-8);
    }
    for (int i = 0; i < CAPACITY * PARAMETERS; ++i) {
        const int mine = i / PARAMETERS == slot;
        const double wanted = mine ? derivative(copy + i % PARAMETERS, copy, &alpha, x, gradient) : 0.0;
        check_close("bank gradient", i, bank_gradient[i], wanted, 1e-8);
    }
    check_close("dalpha", SEED, alpha_gradient[SEED], derivative(&alpha, copy, &alpha, x, gradient), 1e-5);
    check_close("dalpha", 0, alpha_gradient[0], 0.0, 0.0);
    release(alpha_memory);
    release(parameter_memory);
    release(slot_memory);
}

/* One step of AdamW moves the seed's slot as the formula says and leaves the others alone. */
static void check_adamw(kasmina_layer layer, double* gradient) {
    const double rate = 0.05, beta1 = 0.9, beta2 = 0.99, epsilon = 1e-8, decay = 0.1;
    kasmina_memory memory[5];
    const int32_t slot = ((const int32_t*)array(layer, KASMINA_LAYER_ARRAY_SLOT, &memory[0]))[SEED];
    const double* parameters = bank(layer, KASMINA_BANK_ARRAY_PARAMETERS, &memory[1]);
    const double* first = bank(layer, KASMINA_BANK_ARRAY_FIRST_MOMENT, &memory[2]);
    const double* second = bank(layer, KASMINA_BANK_ARRAY_SECOND_MOMENT, &memory[3]);
    const uint32_t* steps = bank(layer, KASMINA_BANK_ARRAY_STEPS, &memory[4]);
    double expected[CAPACITY * PARAMETERS];
    memcpy(expected, parameters, sizeof expected);
    const uint32_t step = steps[slot] + 1;
    for (int i = slot * PARAMETERS; i < (slot + 1) * PARAMETERS; ++i) {
        const double m = beta1 * first[i] + (1.0 - beta1) * gradient[i];
        const double v = beta2 * second[i] + (1.0 - beta2) * gradient[i] * gradient[i];
        expected[i] -= rate * decay * expected[i];
        expected[i] -= rate * (m / (1.0 - pow(beta1, step))) / (sqrt(v / (1.0 - pow(beta2, step))) + epsilon);
    }
    const kasmina_tensor gradient_tensor = tensor(gradient, KASMINA_DATA_TYPE_F64, 2, BANK_SHAPE);
    const kasmina_adamw arguments = {.struct_size = sizeof arguments,
                                     .gradient = &gradient_tensor,
                                     .learning_rate = rate,
                                     .beta1 = beta1,
                                     .beta2 = beta2,
                                     .epsilon = epsilon,
                                     .weight_decay = decay};
    OK(kasmina_layer_adamw(layer, &arguments, NULL, &error));
    for (int i = 0; i < CAPACITY * PARAMETERS; ++i) {
        check_close("parameter", i, parameters[i], expected[i], i / PARAMETERS == slot ? 1e-12 : 0.0);
    }
    CHECK(steps[slot] == step);
    for (int i = 0; i < 5; ++i) {
        release(memory[i]);
    }
}

/* A layer from a checkpoint gives the same bits. */
static void check_checkpoint(kasmina_layer layer, double* x) {
    kasmina_bytes* bytes;
    kasmina_layer again;
    double y[ROWS * HIDDEN], y_again[ROWS * HIDDEN];
    OK(kasmina_layer_to_bytes(layer, NULL, &bytes, &error));
    OK(kasmina_layer_from_bytes(kasmina_bytes_data(bytes), kasmina_bytes_length(bytes), KASMINA_DEVICE_TYPE_CPU, 0,
                                &again, &error));
    kasmina_bytes_destroy(bytes);
    CHECK(state(again) == state(layer));
    forward(layer, x, y);
    forward(again, x, y_again);
    CHECK(memcmp(y, x, sizeof y) != 0 && memcmp(y, y_again, sizeof y) == 0);
    OK(kasmina_layer_destroy(again, &error));
}

int main(void) {
    double x[ROWS * HIDDEN], bank_gradient[CAPACITY * PARAMETERS] = {0};
    for (int i = 0; i < ROWS * HIDDEN; ++i) {
        x[i] = sin(1.3 * i + 0.4);
    }
    x[2 * HIDDEN + SEED * CHUNK + 1] = 0.0;

    const kasmina_layer layer = make_layer();
    check_telemetry(layer, x, check_identity);
    check_telemetry(layer, x, check_observation);
    const kasmina_command germinate = command(KASMINA_ACTION_GERMINATE);
    OK(kasmina_layer_submit(layer, &germinate, 1, &error));
    kasmina_bytes* text;
    OK(kasmina_layer_end_epoch(layer, NULL, &text, &error));
    CHECK(strstr(kasmina_bytes_data(text), "the test wants it") != NULL);
    kasmina_bytes_destroy(text);
    CHECK(state(layer) == KASMINA_LIFECYCLE_GERMINATED);
    check_identity(layer, x);

    OK(kasmina_layer_prepare(layer, KASMINA_DATA_TYPE_F64, KASMINA_ALPHA_GRADIENT, &error));
    advance(layer, KASMINA_ACTION_START_TRAINING, KASMINA_LIFECYCLE_TRAINING, x);
    check_isolated_training(layer, x);
    OK(kasmina_layer_end_epoch(layer, NULL, NULL, &error));
    advance(layer, KASMINA_ACTION_START_GRAFTING, KASMINA_LIFECYCLE_GRAFTING, x);
    OK(kasmina_layer_end_epoch(layer, NULL, NULL, &error));
    check_refused_observation(layer, x);
    check_blend(layer, x, bank_gradient);
    check_adamw(layer, bank_gradient);
    check_checkpoint(layer, x);
    OK(kasmina_layer_report(layer, &text, &error));
    CHECK(strstr(kasmina_bytes_data(text), "GRAFTING") != NULL);
    kasmina_bytes_destroy(text);

    OK(kasmina_layer_roll_back(layer, SEED, "the loss exploded", NULL, &error));
    CHECK(state(layer) == KASMINA_LIFECYCLE_ROLLED_BACK);
    check_identity(layer, x);
    check_telemetry(layer, x, check_observation);

    kasmina_statistics statistics = {.struct_size = sizeof statistics};
    OK(kasmina_get_statistics(&statistics, &error));
    CHECK(statistics.compiled + statistics.memory_hits + statistics.disk_hits > 0 && statistics.failed == 0);
    CHECK(statistics.refused == 0 && statistics.stepped_down == 0 && statistics.given_up == 0);

    /* What was exported outlives the layer. */
    kasmina_memory memory, retained;
    const double* parameters = bank(layer, KASMINA_BANK_ARRAY_PARAMETERS, &memory);
    double copy[CAPACITY * PARAMETERS];
    memcpy(copy, parameters, sizeof copy);
    OK(kasmina_memory_retain(memory, &retained, &error));
    release(memory);
    OK(kasmina_layer_destroy(layer, &error));
    CHECK(memcmp(copy, parameters, sizeof copy) == 0);
    OK(kasmina_shutdown(&error));
    CHECK(memcmp(copy, parameters, sizeof copy) == 0);
    release(retained);
    return 0;
}
