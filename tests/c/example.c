#include <kasmina/kasmina.h>

#include <stdio.h>

/* One way to meet errors: say what it was, and stop. */
static int failed(kasmina_error* error) {
    if (error != NULL) {
        fprintf(stderr, "%s\n", kasmina_error_message(error));
    }
    kasmina_error_destroy(error);
    return error != NULL;
}

int main(void) {
    kasmina_error* error = NULL;
    kasmina_blueprint adapter;
    kasmina_layer layer;
    uint32_t index;

    /* 64 channels, 4 seeds, so 16 channels each; up to 4 of the seeds may carry an adapter. */
    const kasmina_layer_config config = {.struct_size = sizeof config,
                                         .hidden = 64,
                                         .seeds = 4,
                                         .device_type = KASMINA_DEVICE_TYPE_CPU,
                                         .parameter_type = KASMINA_DATA_TYPE_F32,
                                         .settings = "{\"ramp_steps\": 10}"};
    kasmina_layer_create(&config, &layer, &error);
    if (failed(error)) {
        return 1;
    }
    kasmina_blueprint_from_library("bottleneck", 16, "{\"width\": 4}", &adapter, &error);
    if (failed(error)) {
        return 1;
    }
    kasmina_layer_add_blueprint(layer, adapter, 4, &index, &error);
    if (failed(error)) {
        return 1;
    }
    kasmina_blueprint_destroy(adapter, NULL); /* the layer keeps what it needs */

    /* Seed 2 germinates when the epoch ends. */
    const kasmina_command command = {
        .struct_size = sizeof command, .seed = 2, .action = KASMINA_ACTION_GERMINATE, .blueprint = (int32_t)index};
    kasmina_bytes* summary = NULL;
    kasmina_layer_submit(layer, &command, 1, &error);
    if (failed(error)) {
        return 1;
    }
    kasmina_layer_end_epoch(layer, NULL, &summary, &error);
    if (failed(error)) {
        return 1;
    }
    printf("%s\n", kasmina_bytes_data(summary));
    kasmina_bytes_destroy(summary);

    /* A step of the network: y is x until the seed is grafted. */
    static float x[8 * 64], y[8 * 64];
    const int64_t shape[] = {8, 64};
    kasmina_tensor tensor = {.struct_size = sizeof tensor,
                             .data = x,
                             .data_type = KASMINA_DATA_TYPE_F32,
                             .device_type = KASMINA_DEVICE_TYPE_CPU,
                             .rank = 2,
                             .shape = shape};
    kasmina_tensor output = tensor;
    output.data = y;
    const kasmina_forward forward = {.struct_size = sizeof forward, .x = &tensor, .y = &output};
    kasmina_layer_forward(layer, &forward, NULL, &error);
    if (failed(error)) {
        return 1;
    }
    kasmina_layer_destroy(layer, NULL);
    return 0;
}
