// libkasmina: lets a neural network grow while it trains. The conventions of this ABI are in docs/c-api.md.
//
// Generated from src/ffi by cbindgen; do not edit. `make header` writes it anew.

#ifndef KASMINA_KASMINA_H
#define KASMINA_KASMINA_H

#include <stddef.h>
#include <stdint.h>

// The version of this header; kasmina_version() is that of the library.
#define KASMINA_VERSION_MAJOR 0
#define KASMINA_VERSION_MINOR 1
#define KASMINA_VERSION_PATCH 0
#define KASMINA_VERSION "0.1.0"

// What kasmina_get_api gives.
typedef struct kasmina_api kasmina_api;

// The version of the notation that this library reads and writes.
#define IR_VERSION 1

// The version of this ABI: functions and fields are only ever added to it.
#define KASMINA_ABI_VERSION 1

// Flag: two calls on the same inputs give the same bits.
#define KASMINA_DETERMINISTIC 1

// Flag of kasmina_layer_prepare: the gradient of alpha will be asked for.
#define KASMINA_ALPHA_GRADIENT 2

// Flag: nothing is added to telemetry.
#define KASMINA_NO_TELEMETRY 4

// What went wrong, as a number that never changes its meaning: banded by domain and never reused.
//
// The C ABI returns these as `kasmina_status`.
enum kasmina_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The call did what it says.
    KASMINA_STATUS_OK = 0,
    // An argument is null, out of range or contradicts another one.
    KASMINA_STATUS_INVALID_ARGUMENT = 1001,
    // A handle that was never given out, was destroyed, or is of another kind.
    KASMINA_STATUS_INVALID_HANDLE = 1002,
    // An earlier call panicked inside this handle; only destroying it is allowed.
    KASMINA_STATUS_POISONED = 1003,
    // A defect of the library: it panicked, and the panic was caught at the boundary.
    KASMINA_STATUS_PANIC = 1004,
    // The request is well-formed but this version or this device cannot do it.
    KASMINA_STATUS_UNSUPPORTED = 1005,
    // The library was used in a forked child of the process that initialised the device.
    KASMINA_STATUS_FORKED = 1006,
    // The bytes are not a blueprint.
    KASMINA_STATUS_MALFORMED_BLUEPRINT = 2001,
    // The blueprint can be read but its graph is not valid.
    KASMINA_STATUS_INVALID_BLUEPRINT = 2002,
    // The blueprint is over the limit of nodes, parameters or elements.
    KASMINA_STATUS_BLUEPRINT_TOO_LARGE = 2003,
    // The kernel compiler refused the generated source; its log is attached.
    KASMINA_STATUS_COMPILE_FAILED = 3001,
    // NVRTC was not found; the message lists where it was looked for.
    KASMINA_STATUS_COMPILER_UNAVAILABLE = 3002,
    // The kernel that the call needs is not compiled yet.
    KASMINA_STATUS_NOT_READY = 3003,
    // The blueprint needs more of the device (shared memory, say) than there is.
    KASMINA_STATUS_KERNEL_TOO_LARGE = 3004,
    // The kernel or its gradients are not what the blueprint says; it was never used.
    KASMINA_STATUS_VALIDATION_FAILED = 3005,
    // The compiler took longer than it may.
    KASMINA_STATUS_COMPILE_TIMED_OUT = 3006,
    // No CUDA driver or no such device.
    KASMINA_STATUS_DEVICE_UNAVAILABLE = 4001,
    // The driver reported an error.
    KASMINA_STATUS_DEVICE_FAILED = 4002,
    // The device or the host is out of memory.
    KASMINA_STATUS_OUT_OF_MEMORY = 4003,
    // The tensor's shape, strides or device do not fit the layer.
    KASMINA_STATUS_SHAPE_MISMATCH = 5001,
    // The tensor's element type does not fit the layer.
    KASMINA_STATUS_TYPE_MISMATCH = 5002,
    // The transition is not in the table or a gate is closed; the message says which.
    KASMINA_STATUS_TRANSITION_REFUSED = 5003,
    // No slot is left in the bank, or too many seeds are active.
    KASMINA_STATUS_CAPACITY_EXCEEDED = 5004,
    // The state arrays do not match their checksum.
    KASMINA_STATUS_STATE_CORRUPTED = 5005,
    // The snapshot is not of this layer as it now is; the message says why.
    KASMINA_STATUS_SNAPSHOT_MISMATCH = 5006,
    // A file could not be read or written.
    KASMINA_STATUS_STORAGE_FAILED = 6001,
    // A file is damaged or not of this format.
    KASMINA_STATUS_FILE_CORRUPTED = 6002,
    // A file was written by a newer version.
    KASMINA_STATUS_FILE_TOO_NEW = 6003,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_status kasmina_status;
#else
typedef int32_t kasmina_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a controller can ask of a seed. The numbers are part of the C ABI.
enum kasmina_action
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // DORMANT to GERMINATED: takes a slot of the blueprint's bank.
    KASMINA_ACTION_GERMINATE = 1,
    // GERMINATED or TRAINING to CANCELLED.
    KASMINA_ACTION_CANCEL = 2,
    // GERMINATED to TRAINING.
    KASMINA_ACTION_START_TRAINING = 3,
    // TRAINING to GRAFTING.
    KASMINA_ACTION_START_GRAFTING = 4,
    // GRAFTING to STABILIZATION.
    KASMINA_ACTION_STABILISE = 5,
    // STABILIZATION to EVALUATING.
    KASMINA_ACTION_EVALUATE = 6,
    // EVALUATING to FINE_TUNING, or to CULLED if the seed did harm.
    KASMINA_ACTION_FINE_TUNE = 7,
    // FINE_TUNING to FOSSILIZED.
    KASMINA_ACTION_FOSSILISE = 8,
    // TRAINING, EVALUATING or FINE_TUNING to CULLED.
    KASMINA_ACTION_CULL = 9,
    // CULLED (after the embargo), CANCELLED or ROLLED_BACK to DORMANT: nothing of the seed is left.
    KASMINA_ACTION_RESET = 10,
    // TRAINING to FINE_TUNING to ROLLED_BACK. As a command it waits for the epoch's end like the others.
    KASMINA_ACTION_ROLL_BACK = 11,
    // Holds the alpha of a GRAFTING seed where it is, until it is resumed or leaves GRAFTING.
    KASMINA_ACTION_PAUSE = 12,
    // Lets it rise again.
    KASMINA_ACTION_RESUME = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_action kasmina_action;
#else
typedef int32_t kasmina_action;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How alpha rises.
enum kasmina_strategy
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // By the same amount each epoch.
    KASMINA_STRATEGY_FIXED_RAMP = 0,
    // Faster while the trainer's metric improves.
    KASMINA_STRATEGY_PERFORMANCE_LINKED = 1,
    // While the magnitude of the chunk stays near its running mean.
    KASMINA_STRATEGY_DRIFT_CONTROLLED = 2,
    // Slower the further the gradient norm is from its running mean, and only while it is in a range.
    KASMINA_STRATEGY_GRAD_NORM_GATED = 3,
    // As a function of the user's says.
    KASMINA_STRATEGY_USER = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_strategy kasmina_strategy;
#else
typedef int8_t kasmina_strategy;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The state of a seed. The numbers are part of the C ABI and of what kernels read.
enum kasmina_lifecycle
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int8_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Identity; only watches its chunk.
    KASMINA_LIFECYCLE_DORMANT = 0,
    // Identity; has a blueprint, waits for its kernel and for a place to train.
    KASMINA_LIFECYCLE_GERMINATED = 1,
    // Identity; its blueprint trains in isolation.
    KASMINA_LIFECYCLE_TRAINING = 2,
    // Blends in, alpha rising, trained on the main loss.
    KASMINA_LIFECYCLE_GRAFTING = 3,
    // Blended at the reached alpha, parameters frozen.
    KASMINA_LIFECYCLE_STABILIZATION = 4,
    // As before, while its effect on validation is measured.
    KASMINA_LIFECYCLE_EVALUATING = 5,
    // Blended and trained on the main loss.
    KASMINA_LIFECYCLE_FINE_TUNING = 6,
    // Blended for good, frozen.
    KASMINA_LIFECYCLE_FOSSILIZED = 7,
    // Identity; under embargo.
    KASMINA_LIFECYCLE_CULLED = 8,
    // Identity; given up before it was grafted.
    KASMINA_LIFECYCLE_CANCELLED = 9,
    // Identity; taken out in an emergency.
    KASMINA_LIFECYCLE_ROLLED_BACK = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_lifecycle kasmina_lifecycle;
#else
typedef int8_t kasmina_lifecycle;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The element type of a tensor or of a value in a graph. The numbers are part of the C ABI.
//
// Inside a graph, `F32` means the type a launch computes in: f32 for f32, f16 and bf16 tensors, f64 for f64 tensors.
enum kasmina_data_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // IEEE single precision.
    KASMINA_DATA_TYPE_F32 = 0,
    // IEEE half precision.
    KASMINA_DATA_TYPE_F16 = 1,
    // bfloat16.
    KASMINA_DATA_TYPE_BF16 = 2,
    // IEEE double precision.
    KASMINA_DATA_TYPE_F64 = 3,
    // 32-bit signed integer.
    KASMINA_DATA_TYPE_I32 = 4,
    // 64-bit signed integer.
    KASMINA_DATA_TYPE_I64 = 5,
    // A truth value, one byte in memory.
    KASMINA_DATA_TYPE_BOOL = 6,
    // 8-bit signed integer; only state arrays have it.
    KASMINA_DATA_TYPE_I8 = 7,
    // 8-bit unsigned integer; only state arrays have it.
    KASMINA_DATA_TYPE_U8 = 8,
    // 16-bit signed integer; only state arrays have it.
    KASMINA_DATA_TYPE_I16 = 9,
    // 16-bit unsigned integer; only state arrays have it.
    KASMINA_DATA_TYPE_U16 = 10,
    // 32-bit unsigned integer; only state arrays have it.
    KASMINA_DATA_TYPE_U32 = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_data_type kasmina_data_type;
#else
typedef int32_t kasmina_data_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What kind of thing failed. Each kind is recovered from in its own way; `docs/failures.md` says how.
enum kasmina_error_class
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // What was asked for cannot be done: the caller's arguments, or the state things are in.
    KASMINA_ERROR_CLASS_REQUEST = 0,
    // A kernel cannot be compiled.
    KASMINA_ERROR_CLASS_COMPILE = 1,
    // A kernel is not there, or cannot be loaded.
    KASMINA_ERROR_CLASS_LOAD = 2,
    // Work on the device failed, or what it gave is not finite.
    KASMINA_ERROR_CLASS_EXECUTE = 3,
    // There is too little memory, or what is in it was damaged.
    KASMINA_ERROR_CLASS_MEMORY = 4,
    // The device, its driver or its compiler cannot be used.
    KASMINA_ERROR_CLASS_DEVICE = 5,
    // A blueprint is not valid, or its kernel is not what it says.
    KASMINA_ERROR_CLASS_VALIDATION = 6,
    // A message could not be sent or received.
    KASMINA_ERROR_CLASS_BUS = 7,
    // A file could not be read, written or believed.
    KASMINA_ERROR_CLASS_STORAGE = 8,
    // A defect of the library.
    KASMINA_ERROR_CLASS_DEFECT = 9,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_error_class kasmina_error_class;
#else
typedef int32_t kasmina_error_class;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// An array of a blueprint's bank. `capacity` and `size` are those of the bank; moments and parameters are of the
// layer's parameter type.
enum kasmina_bank_array
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // `[capacity, size]`: the parameters.
    KASMINA_BANK_ARRAY_PARAMETERS = 0,
    // `[capacity, size]`: AdamW's running mean of the gradient.
    KASMINA_BANK_ARRAY_FIRST_MOMENT = 1,
    // `[capacity, size]`: AdamW's running mean of the gradient's square.
    KASMINA_BANK_ARRAY_SECOND_MOMENT = 2,
    // `[capacity]` u32: AdamW steps done by each slot.
    KASMINA_BANK_ARRAY_STEPS = 3,
    // `[capacity]` u8: 0 free or frozen, 1 trains on the main loss, 2 trains in isolation.
    KASMINA_BANK_ARRAY_MODE = 4,
    // `[capacity]` u8: 1 where an optimiser step met a gradient that was not finite in this epoch.
    KASMINA_BANK_ARRAY_NON_FINITE = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_bank_array kasmina_bank_array;
#else
typedef int32_t kasmina_bank_array;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Where a device is. The numbers are those of DLPack.
enum kasmina_device_type
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The host; the device index is ignored.
    KASMINA_DEVICE_TYPE_CPU = 1,
    // A CUDA device; the device index is its ordinal.
    KASMINA_DEVICE_TYPE_CUDA = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_device_type kasmina_device_type;
#else
typedef int32_t kasmina_device_type;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// An array of a layer's state. Shapes are in terms of the layer's seeds.
enum kasmina_layer_array
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // `[seeds]` i8: a kasmina_lifecycle each.
    KASMINA_LAYER_ARRAY_LIFECYCLE = 0,
    // `[seeds]` i32: index of the blueprint, -1 for none.
    KASMINA_LAYER_ARRAY_BLUEPRINT = 1,
    // `[seeds]` i32: slot in the blueprint's bank, -1 for none.
    KASMINA_LAYER_ARRAY_SLOT = 2,
    // `[seeds]` f32: blend weight in [0, 1].
    KASMINA_LAYER_ARRAY_ALPHA = 3,
    // `[seeds]` i16: epochs since the last transition.
    KASMINA_LAYER_ARRAY_EPOCHS_IN_STATE = 4,
    // `[seeds]` i8: a kasmina_strategy each.
    KASMINA_LAYER_ARRAY_STRATEGY = 5,
    // `[seeds]` u32: epoch of the last change.
    KASMINA_LAYER_ARRAY_LAST_UPDATE_EPOCH = 6,
    // `[seeds]` u16: epochs of embargo left.
    KASMINA_LAYER_ARRAY_EMBARGO = 7,
    // `[seeds]` u16: errors counted.
    KASMINA_LAYER_ARRAY_ERROR_COUNT = 8,
    // `[seeds]` u8: bit 0 ready, bit 1 fallback used, bit 2 non-finite seen.
    KASMINA_LAYER_ARRAY_FLAGS = 9,
    // `[seeds, 10]` f64: count, sum, sum of squares, min, max, dead, neighbour product and non-finite count of x, sum
    // of squares of the output gradient, rows that fell back to identity.
    KASMINA_LAYER_ARRAY_TELEMETRY = 10,
    // `[seeds, 2]` f64: sum of the isolated training losses, and how many there were.
    KASMINA_LAYER_ARRAY_LOSS = 11,
    // `[seeds]` u32: how often the seed has germinated.
    KASMINA_LAYER_ARRAY_GERMINATIONS = 12,
    // `[seeds]` f64: what the grafting strategy remembers of the seed, a momentum or a running mean.
    KASMINA_LAYER_ARRAY_STRATEGY_MEMORY = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_layer_array kasmina_layer_array;
#else
typedef int32_t kasmina_layer_array;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How important a log message is.
enum kasmina_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Nothing at all.
    KASMINA_LOG_LEVEL_OFF = 0,
    // Something failed.
    KASMINA_LOG_LEVEL_ERROR = 1,
    // Something works, but not as well as it could.
    KASMINA_LOG_LEVEL_WARNING = 2,
    // What happens.
    KASMINA_LOG_LEVEL_INFORMATION = 3,
    // What happens, for people who look for a defect.
    KASMINA_LOG_LEVEL_DEBUG = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum kasmina_log_level kasmina_log_level;
#else
typedef int32_t kasmina_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Bytes or UTF-8 text that a call gave out. The caller owns it and frees it with kasmina_bytes_destroy. Reading it from
// several threads is safe.
typedef struct kasmina_bytes kasmina_bytes;

// An error: a status for programs, a sentence for people, and attachments such as a compiler log. The caller that was
// given one owns it and frees it with kasmina_error_destroy. Reading it from several threads is safe.
typedef struct kasmina_error kasmina_error;

// What the process has compiled and found.
typedef struct {
    // sizeof(kasmina_statistics)
    size_t struct_size;
    // Kernels that were compiled.
    uint64_t compiled;
    // Kernels that were found in memory.
    uint64_t memory_hits;
    // Kernels that were found on disk.
    uint64_t disk_hits;
    // Compiles that failed.
    uint64_t failed;
    // Seconds spent compiling, over all threads.
    double compile_seconds;
    // Compiles that wait or run now.
    uint64_t waiting;
    // Times the disk cache could not be read or written.
    uint64_t disk_errors;
    // Kernels that were proven on their device before their first use.
    uint64_t validated;
    // Kernels that did not pass; they never run.
    uint64_t refused;
    // Seconds spent on proving.
    double validation_seconds;
    // Kernels that a simpler schedule was tried for, because one failed to compile, to load or to prove right.
    uint64_t stepped_down;
    // Kernels that no schedule gave; the seeds that need them stay GERMINATED.
    uint64_t given_up;
    // Of `waiting`, those that are being compiled or read now.
    uint64_t running;
    // Requests that nobody waited for any more when their turn came.
    uint64_t cancelled;
    // Compiles that took longer than KASMINA_COMPILE_SECONDS.
    uint64_t timed_out;
} kasmina_statistics;

// Takes a message: its level (a kasmina_log_level), its text (valid during the call only) and the host's own pointer.
// Must not throw. May call the library.
typedef void (*kasmina_log_callback)(int32_t level, const char *message, void *user_data);

// A blueprint: what a seed computes. Immutable; any thread may use it at any time. 0 is no blueprint.
typedef struct {
    // Opaque.
    uint64_t id;
} kasmina_blueprint;

// What a layer is made from.
typedef struct {
    // sizeof(kasmina_layer_config)
    size_t struct_size;
    // Channels of the layer.
    uint64_t hidden;
    // Seeds; each has a chunk of hidden / seeds channels, and the channels left over are passed through.
    uint64_t seeds;
    // A kasmina_device_type.
    int32_t device_type;
    // The ordinal of the device.
    int32_t device_index;
    // KASMINA_DATA_TYPE_F32 or KASMINA_DATA_TYPE_F64.
    int32_t parameter_type;
    // Must be 0.
    uint32_t flags;
    // Settings as a JSON object, or NULL for the defaults; docs/settings.md lists them.
    const char *settings;
} kasmina_layer_config;

// A layer. Any thread may use it; calls that change it wait for those in progress. 0 is no layer.
typedef struct {
    // Opaque.
    uint64_t id;
} kasmina_layer;

// What a layer is.
typedef struct {
    // sizeof(kasmina_layer_info)
    size_t struct_size;
    // Channels of the layer.
    uint64_t hidden;
    // Seeds of the layer.
    uint64_t seeds;
    // Channels of a seed's chunk.
    uint64_t chunk;
    // A kasmina_device_type.
    int32_t device_type;
    // The ordinal of the device.
    int32_t device_index;
    // A kasmina_data_type.
    int32_t parameter_type;
    // How many blueprints were added.
    uint32_t blueprint_count;
    // Epochs that have ended.
    uint64_t epoch;
    // 1 if a blueprint draws at random, so that a training pass wants a `random` tensor; else 0.
    uint32_t draws;
    // 1 if a seed is in TRAINING, so that kasmina_layer_train does something; else 0.
    uint32_t trains;
    // 1 if a seed applies a blueprint (states 3 to 7), so that the output differs from the input; else 0.
    uint32_t applies;
    // 0.
    uint32_t reserved;
} kasmina_layer_info;

// A layer as it was. It belongs to that layer, and may outlive it. 0 is no snapshot.
typedef struct {
    // Opaque.
    uint64_t id;
} kasmina_snapshot;

// What a snapshot is.
typedef struct {
    // sizeof(kasmina_snapshot_info)
    size_t struct_size;
    // Epochs that had ended when it was taken; 0 if it holds nothing.
    uint64_t epoch;
    // Bytes of device memory that it occupies.
    uint64_t bytes;
    // 1 if it can be restored, 0 if the last attempt to take it failed.
    uint32_t taken;
    // 0
    uint32_t reserved;
} kasmina_snapshot_info;

// A guard over the loss of a training: thresholds, of which 0 is the default, and what it remembers. Set `struct_size` and
// the thresholds, and everything else to 0; then give it to kasmina_loss_guard_judge with one loss after the other.
typedef struct {
    // sizeof(kasmina_loss_guard)
    size_t struct_size;
    // A loss spikes if it is above the running mean by more than this many standard deviations (default 6),
    double deviations;
    // and by more than this fraction of the mean's magnitude (default 0.5).
    double rise;
    // How much of the running mean stays from one loss to the next (default 0.9).
    double decay;
    // As long as fewer losses than this were accepted, none spikes (default 10).
    uint64_t warm_up;
    // Running mean of the accepted losses.
    double mean;
    // Their running variance.
    double variance;
    // How many there were.
    uint64_t accepted;
} kasmina_loss_guard;

// A command to one seed.
typedef struct {
    // sizeof(kasmina_command)
    size_t struct_size;
    // Which seed.
    uint32_t seed;
    // A kasmina_action.
    int32_t action;
    // Index of the blueprint to germinate; ignored by other actions.
    int32_t blueprint;
    // A kasmina_strategy, by which a seed that germinates will graft; ignored by other actions.
    int32_t strategy;
    // Evidence for the gates, NAN where there is none: change of the validation metric, better above 0.
    double validation_delta;
    // Stability of the metric in [0, 1].
    double stability;
    // Total improvement, as a fraction.
    double improvement;
    // Share of calls that failed.
    double error_rate;
    // Why, for the record; may be NULL.
    const char *reason;
} kasmina_command;

// What is known of a seed that grafts when an epoch ends. NAN stands for what is not known.
typedef struct {
    // sizeof(kasmina_grafting) of the library: a later version may add fields at the end.
    size_t struct_size;
    // Which seed.
    uint32_t seed;
    // The epoch that is ending; the first is 1.
    uint32_t epoch;
    // Epochs that ended since the seed began to graft, with this one.
    uint32_t epochs_in_state;
    // The seed's blend weight so far.
    float alpha;
    // The metric that kasmina_layer_set_metric was given for this epoch.
    double metric;
    // How much higher it is than the last one that was known.
    double improvement;
    // Root mean square of the chunk's finite elements in this epoch, before the seed's blueprint.
    double root_mean_square;
    // Root of the sum of the squares of the output gradient's elements in this epoch; 0 without a backward pass.
    double gradient_norm;
} kasmina_grafting;

// A strategy: says in `*increment`, which is 0 before, by how much the seed's alpha rises. It must not be below 0; alpha
// ends at 1. `*memory` is what the strategy remembers of the seed: 0 when it germinates, kept in checkpoints. Returns 0,
// or any other number if it failed: then alpha and memory stay as they are, and the epoch's summary says so. Must not
// throw. May call the library, but not end an epoch.
typedef int32_t (*kasmina_strategy_callback)(const kasmina_grafting *seen,
                                             double *memory,
                                             double *increment,
                                             void *user_data);

// A hold on memory that a layer exported. It stays valid when the layer is destroyed, until the hold is released. 0 is
// no memory.
typedef struct {
    // Opaque.
    uint64_t id;
} kasmina_memory;

// A tensor: a view of memory that someone else owns. Only read during the call it is passed to.
typedef struct {
    // sizeof(kasmina_tensor)
    size_t struct_size;
    // The first element; may be NULL if there are no elements.
    void *data;
    // A kasmina_data_type.
    int32_t data_type;
    // A kasmina_device_type.
    int32_t device_type;
    // The ordinal of the device.
    int32_t device_index;
    // How many dimensions there are.
    int32_t rank;
    // `rank` sizes.
    const int64_t *shape;
    // `rank` strides in elements; NULL if the tensor is dense with the last dimension varying fastest.
    const int64_t *strides;
} kasmina_tensor;

// Arguments of kasmina_layer_forward.
typedef struct {
    // sizeof(kasmina_forward)
    size_t struct_size;
    // `[..., hidden]` f32, f16, bf16 or f64, with any strides, but the rows (all dimensions before the last) need no more
    // than two. A tensor `[N, channels, height, width]` is given as `[N, height, width, channels]` with its own strides.
    // Fast if the channels of a row, or the rows of a channel, are adjacent.
    const kasmina_tensor *x;
    // Of x's type and as many rows, but with any strides of its own; written. Its elements must not overlap each other
    // or x. Or it is x itself, with the same data and strides: then only chunks of seeds that apply a blueprint are
    // written, and a backward pass needs a copy of what x was. Or it is NULL: then x is observed and nothing else is
    // read or written, which is allowed only while no seed applies a blueprint (`applies` of kasmina_layer_info), when
    // y would be x.
    const kasmina_tensor *y;
    // `[seeds]` f32 instead of the layer's own alphas, or NULL.
    const kasmina_tensor *alpha;
    // One dense `[capacity, size]` tensor of the parameter type per blueprint instead of the layer's own, or NULL.
    const kasmina_tensor *const *banks;
    // How many banks are given.
    size_t bank_count;
    // `[seeds, 10]` f64 to add telemetry to instead of the layer's own, or NULL.
    const kasmina_tensor *telemetry;
    // KASMINA_DETERMINISTIC, KASMINA_NO_TELEMETRY, both or 0.
    uint32_t flags;
    // Must be 0.
    uint32_t reserved;
    // `[1]` i64: what blueprints draw at random follows from it alone; give a training forward pass and its backward pass the
    // same one. It is read when the work runs, so a captured graph draws anew when it changes. NULL in evaluation: then
    // dropout is not active.
    const kasmina_tensor *random;
} kasmina_forward;

// Arguments of kasmina_layer_backward.
typedef struct {
    // sizeof(kasmina_backward)
    size_t struct_size;
    // The x of the forward call; not read without input_gradient.
    const kasmina_tensor *x;
    // Gradient of the loss with respect to y; of x's type and as many rows.
    const kasmina_tensor *output_gradient;
    // Gradient with respect to x; of its type and as many rows; written. Its elements must not overlap each other or the
    // other tensors. Or it is NULL: then output_gradient is observed and nothing else is read or written, which is allowed
    // only while no seed applies a blueprint, when it would be output_gradient, and refused (KASMINA_STATUS_NOT_READY) while
    // the stream records a graph.
    const kasmina_tensor *input_gradient;
    // As in kasmina_forward.
    const kasmina_tensor *alpha;
    // As in kasmina_forward.
    const kasmina_tensor *const *banks;
    // How many banks are given.
    size_t bank_count;
    // One dense `[capacity, size]` tensor of the parameter type per blueprint, added to. NULL if there are no
    // blueprints.
    const kasmina_tensor *const *bank_gradients;
    // How many bank gradients are given: as many as there are blueprints.
    size_t bank_gradient_count;
    // `[seeds]` f32, added to, or NULL.
    const kasmina_tensor *alpha_gradient;
    // As in kasmina_forward.
    const kasmina_tensor *telemetry;
    // KASMINA_DETERMINISTIC, KASMINA_NO_TELEMETRY, both or 0.
    uint32_t flags;
    // Must be 0.
    uint32_t reserved;
    // As in kasmina_forward.
    const kasmina_tensor *random;
} kasmina_backward;

// Arguments of kasmina_layer_train.
typedef struct {
    // sizeof(kasmina_train)
    size_t struct_size;
    // As in kasmina_forward.
    const kasmina_tensor *x;
    // What blueprints learn to compute from x; of its type and as many rows. NULL means x itself.
    const kasmina_tensor *target;
    // KASMINA_DETERMINISTIC or 0.
    uint32_t flags;
    // Must be 0.
    uint32_t reserved;
} kasmina_train;

// Arguments of kasmina_layer_adamw; as in torch.optim.AdamW.
typedef struct {
    // sizeof(kasmina_adamw)
    size_t struct_size;
    // Index of the blueprint whose bank is updated.
    uint32_t blueprint;
    // Must be 0.
    uint32_t flags;
    // `[capacity, size]` instead of the bank's own parameters, or NULL; written.
    const kasmina_tensor *parameters;
    // `[capacity, size]`.
    const kasmina_tensor *gradient;
    // Learning rate.
    double learning_rate;
    // Decay of the first moment.
    double beta1;
    // Decay of the second moment.
    double beta2;
    // Added to the root of the second moment.
    double epsilon;
    // Decoupled weight decay.
    double weight_decay;
} kasmina_adamw;



#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the ABI that the library has; compare it with KASMINA_ABI_VERSION. This function and kasmina_get_api
// never change.
uint32_t kasmina_abi_version(void);

// The version of the library, such as "0.1.0". Static.
const char *kasmina_version(void);

// What the process has compiled and found so far. The caller sets `struct_size`.
kasmina_status kasmina_get_statistics(kasmina_statistics *statistics, kasmina_error **error);

// Ends the use of the library in this process: destroys all layers, blueprints and snapshots. After it, functions that can fail
// return an error, destroy functions do nothing, and exported memory lives until it is released. To call it twice is
// allowed, and not to call it at all.
kasmina_status kasmina_shutdown(kasmina_error **error);

// The status of an error; KASMINA_STATUS_OK of NULL.
kasmina_status kasmina_error_status(const kasmina_error *error);

// What kind of thing failed, as a kasmina_error_class, for whoever recovers from one kind in one way; 0 of NULL.
int32_t kasmina_error_get_class(const kasmina_error *error);

// What went wrong, its causes included; "" of NULL. UTF-8; lives as long as the error.
const char *kasmina_error_message(const kasmina_error *error);

// How many texts are attached; 0 of NULL.
size_t kasmina_error_attachment_count(const kasmina_error *error);

// The name of an attached text, such as "compiler log"; NULL if there are not so many. Lives as long as the error.
const char *kasmina_error_attachment_name(const kasmina_error *error,
                                          size_t index);

// An attached text; NULL if there are not so many. UTF-8; lives as long as the error.
const char *kasmina_error_attachment_text(const kasmina_error *error, size_t index);

// Frees an error. NULL is allowed.
void kasmina_error_destroy(kasmina_error *error);

// The first byte; NULL of NULL. A zero byte follows the last one, so text can be read as a C string. Lives as long as
// the object.
const char *kasmina_bytes_data(const kasmina_bytes *bytes);

// How many bytes there are, without the zero byte that follows; 0 of NULL.
size_t kasmina_bytes_length(const kasmina_bytes *bytes);

// Frees the object. NULL is allowed.
void kasmina_bytes_destroy(kasmina_bytes *bytes);

// Sends log messages up to `level` (a kasmina_log_level) to a callback; NULL ends it. Messages are delivered on a thread
// that is in a call into the library, when that call is about to return and no lock is held. When this function
// returns, the callback before runs no more (unless this call was made from inside it).
kasmina_status kasmina_set_log(kasmina_log_callback callback,
                               void *user_data,
                               int32_t level,
                               kasmina_error **error);

// Makes a blueprint from JSON, which may come from anywhere: any bytes give a valid blueprint or an error that names
// the node and the reason. The caller destroys the blueprint.
kasmina_status kasmina_blueprint_from_json(const char *json,
                                           size_t length,
                                           kasmina_blueprint *blueprint,
                                           kasmina_error **error);

// Makes a blueprint of the library, such as "bottleneck", for chunks of `chunk` channels. `attributes` is a JSON
// object, such as {"width": 4}, or NULL for the defaults. The caller destroys the blueprint.
kasmina_status kasmina_blueprint_from_library(const char *name,
                                              uint64_t chunk,
                                              const char *attributes,
                                              kasmina_blueprint *blueprint,
                                              kasmina_error **error);

// The blueprint as JSON. The caller destroys the bytes.
kasmina_status kasmina_blueprint_to_json(kasmina_blueprint blueprint,
                                         kasmina_bytes **json,
                                         kasmina_error **error);

// The blueprint's identity: 32 bytes that two blueprints share if and only if they compute the same graph, whatever its
// names are.
kasmina_status kasmina_blueprint_hash(kasmina_blueprint blueprint,
                                      uint8_t *hash,
                                      kasmina_error **error);

// How many channels a chunk has for this blueprint.
kasmina_status kasmina_blueprint_chunk(kasmina_blueprint blueprint, uint64_t *chunk, kasmina_error **error);

// How many parameters one seed with this blueprint has.
kasmina_status kasmina_blueprint_parameter_count(kasmina_blueprint blueprint,
                                                 uint64_t *count,
                                                 kasmina_error **error);

// The parameters that a seed germinates with, one parameter after the other: what the initializers say, with the random
// ones drawn from `random_seed`. Equal seeds give equal values on every platform. `count` must be the parameter count of
// the blueprint; `values` may be NULL if that is 0.
kasmina_status kasmina_blueprint_initial_values(kasmina_blueprint blueprint,
                                                uint64_t random_seed,
                                                double *values,
                                                uint64_t count,
                                                kasmina_error **error);

// Ends a blueprint's handle. Layers that it was added to keep what they need. Allowed after kasmina_shutdown.
kasmina_status kasmina_blueprint_destroy(kasmina_blueprint blueprint, kasmina_error **error);

// Makes a layer whose seeds are all dormant. The caller destroys it.
kasmina_status kasmina_layer_create(const kasmina_layer_config *config,
                                    kasmina_layer *layer,
                                    kasmina_error **error);

// What a layer is. The caller sets `struct_size` of `info`.
kasmina_status kasmina_layer_get_info(kasmina_layer layer, kasmina_layer_info *info, kasmina_error **error);

// Adds a blueprint with a bank of `capacity` slots and gives its index, which commands use. The blueprint may be
// destroyed afterwards. Call it between steps: it waits for calls in progress on this layer.
kasmina_status kasmina_layer_add_blueprint(kasmina_layer layer,
                                           kasmina_blueprint blueprint,
                                           uint64_t capacity,
                                           uint32_t *index,
                                           kasmina_error **error);

// Compiles and loads now what the layer needs for tensors of a type (a kasmina_data_type), so that a CUDA graph capture
// that follows finds everything. `flags` may be KASMINA_ALPHA_GRADIENT. Waits for the compiler.
kasmina_status kasmina_layer_prepare(kasmina_layer layer,
                                     int32_t data_type,
                                     uint32_t flags,
                                     kasmina_error **error);

// Waits for the kernels that are compiled in the background, of the kinds that were used so far, and loads them: then
// nothing that happens at the epoch's end depends on how fast a compiler is. Processes that train the same layer call it
// before each epoch's end. All are waited for, and the first that cannot be had is the error; its seeds stay GERMINATED.
kasmina_status kasmina_layer_wait_for_kernels(kasmina_layer layer,
                                              kasmina_error **error);

// The seeds' state as the host keeps it: `[seeds, 4]` int32_t of lifecycle (a kasmina_lifecycle), blueprint (-1 for
// none), epochs in this state, and strategy. Waits for nothing. The caller destroys the bytes.
kasmina_status kasmina_layer_state(kasmina_layer layer,
                                   kasmina_bytes **state,
                                   kasmina_error **error);

// The layer's health report as JSON, as of the last epoch's end. The caller destroys the bytes.
kasmina_status kasmina_layer_report(kasmina_layer layer, kasmina_bytes **report, kasmina_error **error);

// Ends a layer's handle. Memory that was exported from it lives on until it is released. Allowed after
// kasmina_shutdown.
kasmina_status kasmina_layer_destroy(kasmina_layer layer, kasmina_error **error);

// Writes a checkpoint of the layer to a file, after all work on the stream. A file that was there before is replaced at
// once or not at all.
kasmina_status kasmina_layer_save(kasmina_layer layer,
                                  const char *path,
                                  void *stream,
                                  kasmina_error **error);

// Makes a layer from a checkpoint file, on the given device (a kasmina_device_type and an ordinal). The caller destroys
// it.
kasmina_status kasmina_layer_load(const char *path,
                                  int32_t device_type,
                                  int32_t device_index,
                                  kasmina_layer *layer,
                                  kasmina_error **error);

// A checkpoint of the layer, as kasmina_layer_save writes it, after all work on the stream. The caller destroys the
// bytes.
kasmina_status kasmina_layer_to_bytes(kasmina_layer layer,
                                      void *stream,
                                      kasmina_bytes **bytes,
                                      kasmina_error **error);

// Makes a layer from a checkpoint, which may come from anywhere: damaged bytes are an error. Otherwise as
// kasmina_layer_load.
kasmina_status kasmina_layer_from_bytes(const char *data,
                                        size_t length,
                                        int32_t device_type,
                                        int32_t device_index,
                                        kasmina_layer *layer,
                                        kasmina_error **error);

// Makes a copy of a layer, after all work on the stream: on the given device, with parameters and their moments of the
// given type (KASMINA_DATA_TYPE_F32 or KASMINA_DATA_TYPE_F64). The caller destroys it.
kasmina_status kasmina_layer_copy(kasmina_layer layer,
                                  int32_t device_type,
                                  int32_t device_index,
                                  int32_t parameter_type,
                                  void *stream,
                                  kasmina_layer *copy,
                                  kasmina_error **error);

// Takes a snapshot of a layer on its own device: everything that a checkpoint holds, as it is after the work that is
// queued on the stream. Allocates as much device memory as the layer's state, telemetry and banks occupy. Call it between
// steps: it waits for calls in progress on this layer. The caller destroys it.
kasmina_status kasmina_snapshot_create(kasmina_layer layer,
                                       void *stream,
                                       kasmina_snapshot *snapshot,
                                       kasmina_error **error);

// Takes a snapshot anew, of the same layer and into the same memory: a few copies on the device, which are queued on the
// stream. Nothing is allocated and nothing waited for. KASMINA_STATUS_SNAPSHOT_MISMATCH if it is of another layer or the
// layer was given blueprints since; then create another one.
kasmina_status kasmina_snapshot_take(kasmina_snapshot snapshot,
                                     kasmina_layer layer,
                                     void *stream,
                                     kasmina_error **error);

// What a snapshot is. The caller sets `struct_size` of `info`.
kasmina_status kasmina_snapshot_get_info(kasmina_snapshot snapshot,
                                         kasmina_snapshot_info *info,
                                         kasmina_error **error);

// Puts a layer back as it was when the snapshot was taken, bit for bit, from the next launch on the stream on: a few
// copies on the device, and nothing is waited for. Commands that were accepted since and have not taken effect are
// dropped. What was done goes to `restoration` as JSON if that is not NULL; the caller destroys the bytes. `reason` is for
// the record and may be NULL. The snapshot can be restored again. To take one seed out and leave the others as they are,
// there is kasmina_layer_roll_back.
kasmina_status kasmina_layer_restore(kasmina_layer layer,
                                     kasmina_snapshot snapshot,
                                     const char *reason,
                                     void *stream,
                                     kasmina_bytes **restoration,
                                     kasmina_error **error);

// Ends a snapshot's handle and gives its memory back. Allowed after kasmina_shutdown.
kasmina_status kasmina_snapshot_destroy(kasmina_snapshot snapshot, kasmina_error **error);

// Judges a loss. If it is to be trained on, `reason` becomes NULL and the guard remembers it. If it is not finite or spikes,
// `reason` becomes a sentence, which the caller destroys, and the guard is left as it was: restore what you have a
// snapshot of (kasmina_layer_restore, and your own weights).
kasmina_status kasmina_loss_guard_judge(kasmina_loss_guard *guard,
                                        double loss,
                                        kasmina_bytes **reason,
                                        kasmina_error **error);

// Checks commands against the transition table and the gates, and queues them all or none; they take effect together at
// the next kasmina_layer_end_epoch. All commands have the same `struct_size`.
kasmina_status kasmina_layer_submit(kasmina_layer layer,
                                    const kasmina_command *commands,
                                    size_t count,
                                    kasmina_error **error);

// Ends an epoch: asks the host's strategy, reads telemetry, moves alphas on, applies the queued commands, checks the
// state arrays. Waits for the stream. What happened goes to `summary` as JSON if that is not NULL; the caller destroys
// the bytes.
kasmina_status kasmina_layer_end_epoch(kasmina_layer layer,
                                       void *stream,
                                       kasmina_bytes **summary,
                                       kasmina_error **error);

// Tells the layer's circuit breakers the time, in seconds on any clock that does not go back. From then on they go by what
// they are told and not by their own clock: for trainers that want the same decisions in every process or every run.
kasmina_status kasmina_layer_set_time(kasmina_layer layer,
                                      double seconds,
                                      kasmina_error **error);

// Takes a seed out of the network at once: the next forward passes its chunk through. Always permitted from TRAINING to
// FINE_TUNING. `reason` is for the record and may be NULL.
kasmina_status kasmina_layer_roll_back(kasmina_layer layer,
                                       uint32_t seed,
                                       const char *reason,
                                       void *stream,
                                       kasmina_error **error);

// Sets the strategy of the layer's seeds that germinate with KASMINA_STRATEGY_USER; NULL ends it, and their alpha is
// held. kasmina_layer_end_epoch calls it for each such seed that grafts and is not paused, on its own thread and with no
// lock held. An end of an epoch in progress on another thread may still call the strategy before. Checkpoints and copies
// of the layer have no callback.
kasmina_status kasmina_layer_set_strategy(kasmina_layer layer,
                                          kasmina_strategy_callback callback,
                                          void *user_data,
                                          kasmina_error **error);

// Gives the trainer's metric for the running epoch, for the strategies that want it: higher is better. A number that is
// not finite is no metric. The next kasmina_layer_end_epoch uses it up.
kasmina_status kasmina_layer_set_metric(kasmina_layer layer,
                                        double metric,
                                        kasmina_error **error);

// Exports an array of the layer's state; `array` is a kasmina_layer_array. The caller sets `struct_size` of `tensor`
// and releases `memory`; the tensor's pointers are valid until then. To be read only; on a CUDA device it lies in device
// memory, and kernels in flight may change it.
kasmina_status kasmina_layer_export_array(kasmina_layer layer,
                                          int32_t array,
                                          kasmina_memory *memory,
                                          kasmina_tensor *tensor,
                                          kasmina_error **error);

// Exports an array of the bank of a blueprint; `array` is a kasmina_bank_array. The host may write parameters, with the
// work ordered by its stream. Trainers that average replicas may write moments, steps and non-finite marks as well, and
// telemetry and losses, before the epoch ends; the rest is to be read only. Otherwise as kasmina_layer_export_array.
kasmina_status kasmina_layer_export_bank(kasmina_layer layer,
                                         uint32_t blueprint,
                                         int32_t array,
                                         kasmina_memory *memory,
                                         kasmina_tensor *tensor,
                                         kasmina_error **error);

// Makes another hold on the same memory, to be released on its own. A tensor that came with the first one is valid
// until both are released.
kasmina_status kasmina_memory_retain(kasmina_memory memory,
                                     kasmina_memory *retained,
                                     kasmina_error **error);

// Releases a hold. Memory that has no hold and no layer any more is freed. Allowed after kasmina_shutdown.
kasmina_status kasmina_memory_release(kasmina_memory memory, kasmina_error **error);

// Runs all seeds of the layer on x and writes y; without y, observes x. On a CUDA device the work is enqueued on `stream`
// (a cudaStream_t; NULL is the default stream) and the call does not wait.
kasmina_status kasmina_layer_forward(kasmina_layer layer,
                                     const kasmina_forward *forward,
                                     void *stream,
                                     kasmina_error **error);

// Runs the gradient of kasmina_layer_forward: writes the input's, adds the parameters' (of seeds that train on the main
// loss) and alpha's; without input_gradient, observes output_gradient. Streams as in kasmina_layer_forward.
kasmina_status kasmina_layer_backward(kasmina_layer layer,
                                      const kasmina_backward *backward,
                                      void *stream,
                                      kasmina_error **error);

// One step of isolated training of all seeds in TRAINING: loss, gradient and AdamW; returns at once when there are
// none. Touches nothing of the host's network. Streams as in kasmina_layer_forward.
kasmina_status kasmina_layer_train(kasmina_layer layer,
                                   const kasmina_train *train,
                                   void *stream,
                                   kasmina_error **error);

// One step of AdamW on the slots of a bank that train on the main loss; all others keep their bits. Streams as in
// kasmina_layer_forward.
kasmina_status kasmina_layer_adamw(kasmina_layer layer,
                                   const kasmina_adamw *adamw,
                                   void *stream,
                                   kasmina_error **error);

// The functions of the library, for hosts that open it with dlopen: give KASMINA_ABI_VERSION of the header you compiled
// with. NULL if the library is older than that. Static.
const kasmina_api *kasmina_get_api(uint32_t version);

// The functions above, for hosts that open the library with dlopen. Grows at its end only: a field is there if
// struct_size says so.
struct kasmina_api {
    // Size of the table in the library that gave it.
    size_t struct_size;
    uint32_t (*abi_version)(void);
    const char *(*version)(void);
    kasmina_status (*shutdown)(kasmina_error **error);
    kasmina_status (*set_log)(kasmina_log_callback callback, void *user_data, int32_t level,
        kasmina_error **error);
    kasmina_status (*get_statistics)(kasmina_statistics *statistics, kasmina_error **error);
    kasmina_status (*error_status)(const kasmina_error *error);
    const char *(*error_message)(const kasmina_error *error);
    size_t (*error_attachment_count)(const kasmina_error *error);
    const char *(*error_attachment_name)(const kasmina_error *error, size_t index);
    const char *(*error_attachment_text)(const kasmina_error *error, size_t index);
    void (*error_destroy)(kasmina_error *error);
    const char *(*bytes_data)(const kasmina_bytes *bytes);
    size_t (*bytes_length)(const kasmina_bytes *bytes);
    void (*bytes_destroy)(kasmina_bytes *bytes);
    kasmina_status (*blueprint_from_json)(const char *json, size_t length, kasmina_blueprint *blueprint,
        kasmina_error **error);
    kasmina_status (*blueprint_from_library)(const char *name, uint64_t chunk, const char *attributes,
        kasmina_blueprint *blueprint, kasmina_error **error);
    kasmina_status (*blueprint_to_json)(kasmina_blueprint blueprint, kasmina_bytes **json,
        kasmina_error **error);
    kasmina_status (*blueprint_hash)(kasmina_blueprint blueprint, uint8_t *hash, kasmina_error **error);
    kasmina_status (*blueprint_chunk)(kasmina_blueprint blueprint, uint64_t *chunk, kasmina_error **error);
    kasmina_status (*blueprint_parameter_count)(kasmina_blueprint blueprint, uint64_t *count,
        kasmina_error **error);
    kasmina_status (*blueprint_destroy)(kasmina_blueprint blueprint, kasmina_error **error);
    kasmina_status (*layer_create)(const kasmina_layer_config *config, kasmina_layer *layer,
        kasmina_error **error);
    kasmina_status (*layer_get_info)(kasmina_layer layer, kasmina_layer_info *info, kasmina_error **error);
    kasmina_status (*layer_add_blueprint)(kasmina_layer layer, kasmina_blueprint blueprint, uint64_t capacity,
        uint32_t *index, kasmina_error **error);
    kasmina_status (*layer_prepare)(kasmina_layer layer, int32_t data_type, uint32_t flags,
        kasmina_error **error);
    kasmina_status (*layer_state)(kasmina_layer layer, kasmina_bytes **state, kasmina_error **error);
    kasmina_status (*layer_report)(kasmina_layer layer, kasmina_bytes **report, kasmina_error **error);
    kasmina_status (*layer_save)(kasmina_layer layer, const char *path, void *stream, kasmina_error **error);
    kasmina_status (*layer_load)(const char *path, int32_t device_type, int32_t device_index,
        kasmina_layer *layer, kasmina_error **error);
    kasmina_status (*layer_to_bytes)(kasmina_layer layer, void *stream, kasmina_bytes **bytes,
        kasmina_error **error);
    kasmina_status (*layer_from_bytes)(const char *data, size_t length, int32_t device_type,
        int32_t device_index, kasmina_layer *layer, kasmina_error **error);
    kasmina_status (*layer_destroy)(kasmina_layer layer, kasmina_error **error);
    kasmina_status (*layer_submit)(kasmina_layer layer, const kasmina_command *commands, size_t count,
        kasmina_error **error);
    kasmina_status (*layer_end_epoch)(kasmina_layer layer, void *stream, kasmina_bytes **summary,
        kasmina_error **error);
    kasmina_status (*layer_roll_back)(kasmina_layer layer, uint32_t seed, const char *reason, void *stream,
        kasmina_error **error);
    kasmina_status (*layer_export_array)(kasmina_layer layer, int32_t array, kasmina_memory *memory,
        kasmina_tensor *tensor, kasmina_error **error);
    kasmina_status (*layer_export_bank)(kasmina_layer layer, uint32_t blueprint, int32_t array,
        kasmina_memory *memory, kasmina_tensor *tensor, kasmina_error **error);
    kasmina_status (*memory_retain)(kasmina_memory memory, kasmina_memory *retained, kasmina_error **error);
    kasmina_status (*memory_release)(kasmina_memory memory, kasmina_error **error);
    kasmina_status (*layer_forward)(kasmina_layer layer, const kasmina_forward *forward, void *stream,
        kasmina_error **error);
    kasmina_status (*layer_backward)(kasmina_layer layer, const kasmina_backward *backward, void *stream,
        kasmina_error **error);
    kasmina_status (*layer_train)(kasmina_layer layer, const kasmina_train *train, void *stream,
        kasmina_error **error);
    kasmina_status (*layer_adamw)(kasmina_layer layer, const kasmina_adamw *adamw, void *stream,
        kasmina_error **error);
    kasmina_status (*layer_copy)(kasmina_layer layer, int32_t device_type, int32_t device_index,
        int32_t parameter_type, void *stream, kasmina_layer *copy, kasmina_error **error);
    kasmina_status (*blueprint_initial_values)(kasmina_blueprint blueprint, uint64_t random_seed,
        double *values, uint64_t count, kasmina_error **error);
    kasmina_status (*layer_set_strategy)(kasmina_layer layer, kasmina_strategy_callback callback,
        void *user_data, kasmina_error **error);
    kasmina_status (*layer_set_metric)(kasmina_layer layer, double metric, kasmina_error **error);
    kasmina_status (*layer_wait_for_kernels)(kasmina_layer layer, kasmina_error **error);
    kasmina_status (*snapshot_create)(kasmina_layer layer, void *stream, kasmina_snapshot *snapshot,
        kasmina_error **error);
    kasmina_status (*snapshot_take)(kasmina_snapshot snapshot, kasmina_layer layer, void *stream,
        kasmina_error **error);
    kasmina_status (*snapshot_get_info)(kasmina_snapshot snapshot, kasmina_snapshot_info *info,
        kasmina_error **error);
    kasmina_status (*snapshot_destroy)(kasmina_snapshot snapshot, kasmina_error **error);
    kasmina_status (*layer_restore)(kasmina_layer layer, kasmina_snapshot snapshot, const char *reason,
        void *stream, kasmina_bytes **restoration, kasmina_error **error);
    kasmina_status (*loss_guard_judge)(kasmina_loss_guard *guard, double loss, kasmina_bytes **reason,
        kasmina_error **error);
    kasmina_status (*layer_set_time)(kasmina_layer layer, double seconds, kasmina_error **error);
    int32_t (*error_get_class)(const kasmina_error *error);
};

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KASMINA_KASMINA_H */
