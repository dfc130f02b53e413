// libkasmina for C++17: move-only owners of the handles of kasmina.h, and exceptions instead of statuses. Header only;
// link with libkasmina alone.
//
// Every function here is one call of the C ABI, named alike; kasmina.h says what it does. All of them throw
// kasmina::Error. What is not here is reached through handle().

#ifndef KASMINA_KASMINA_HPP
#define KASMINA_KASMINA_HPP

#include <kasmina/kasmina.h>

#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kasmina {

/// What a call of the C ABI reports.
class Error : public std::runtime_error {
  public:
    /// Takes the text and the attachments of an error; the caller still owns it.
    Error(kasmina_status status, const kasmina_error* error)
        : std::runtime_error(kasmina_error_message(error)), status_(status),
          class_(static_cast<kasmina_error_class>(kasmina_error_get_class(error))) {
        for (size_t i = 0; i < kasmina_error_attachment_count(error); ++i) {
            attachments_.emplace_back(kasmina_error_attachment_name(error, i), kasmina_error_attachment_text(error, i));
        }
    }

    kasmina_status status() const noexcept { return status_; }

    /// What kind of thing failed.
    kasmina_error_class error_class() const noexcept { return class_; }

    /// Attached texts, such as a compiler log, by name.
    const std::vector<std::pair<std::string, std::string>>& attachments() const noexcept { return attachments_; }

  private:
    kasmina_status status_;
    kasmina_error_class class_;
    std::vector<std::pair<std::string, std::string>> attachments_;
};

/// Makes a call, given where its error goes, and throws what it reports.
template <typename Call>
void check(Call&& call) {
    struct Owner {
        kasmina_error* error = nullptr;
        ~Owner() { kasmina_error_destroy(error); }
    } owner;
    const kasmina_status status = std::forward<Call>(call)(&owner.error);
    if (status != KASMINA_STATUS_OK) {
        throw Error(status, owner.error);
    }
}

/// A struct of the C ABI with its struct_size set and everything else zero.
template <typename Struct>
Struct sized() {
    Struct value{};
    value.struct_size = sizeof(Struct);
    return value;
}

/// Makes a call that gives bytes out, and takes them as a string.
template <typename Call>
std::string take_bytes(Call&& call) {
    struct Owner {
        kasmina_bytes* bytes = nullptr;
        ~Owner() { kasmina_bytes_destroy(bytes); }
    } owner;
    check([&](kasmina_error** error) { return call(&owner.bytes, error); });
    return std::string(kasmina_bytes_data(owner.bytes), kasmina_bytes_length(owner.bytes));
}

/// The only owner of a handle.
template <typename Handle, kasmina_status (*end)(Handle, kasmina_error**)>
class Owned {
  public:
    explicit Owned(Handle handle) noexcept : handle_(handle) {}
    Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
    Owned& operator=(Owned&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    ~Owned() {
        if (handle_.id != 0) {
            end(handle_, nullptr);
        }
    }

    Handle handle() const noexcept { return handle_; }

  private:
    Handle handle_;
};

/// A view of memory that someone else owns, with its own shape and strides.
class Tensor {
  public:
    /// A dense tensor, by default on the CPU.
    Tensor(void* data, kasmina_data_type type, std::vector<int64_t> shape,
           kasmina_device_type device_type = KASMINA_DEVICE_TYPE_CPU, int32_t device_index = 0)
        : data_(data), type_(type), device_type_(device_type), device_index_(device_index), shape_(std::move(shape)) {}
    Tensor(float* data, std::vector<int64_t> shape) : Tensor(data, KASMINA_DATA_TYPE_F32, std::move(shape)) {}
    Tensor(double* data, std::vector<int64_t> shape) : Tensor(data, KASMINA_DATA_TYPE_F64, std::move(shape)) {}

    /// The same memory with other strides, in elements.
    Tensor with_strides(std::vector<int64_t> strides) const {
        if (strides.size() != shape_.size()) {
            throw std::invalid_argument("kasmina: a tensor needs as many strides as it has dimensions");
        }
        Tensor result = *this;
        result.strides_ = std::move(strides);
        return result;
    }

    /// What the C ABI takes; valid as long as this tensor.
    kasmina_tensor descriptor() const {
        auto tensor = sized<kasmina_tensor>();
        tensor.data = data_;
        tensor.data_type = type_;
        tensor.device_type = device_type_;
        tensor.device_index = device_index_;
        tensor.rank = static_cast<int32_t>(shape_.size());
        tensor.shape = shape_.data();
        tensor.strides = strides_.empty() ? nullptr : strides_.data();
        return tensor;
    }

  private:
    void* data_;
    kasmina_data_type type_;
    kasmina_device_type device_type_;
    int32_t device_index_;
    std::vector<int64_t> shape_;
    std::vector<int64_t> strides_;
};

/// What a seed computes.
class Blueprint : public Owned<kasmina_blueprint, kasmina_blueprint_destroy> {
  public:
    using Owned::Owned;

    static Blueprint from_json(std::string_view json) {
        kasmina_blueprint blueprint{};
        check([&](auto error) { return kasmina_blueprint_from_json(json.data(), json.size(), &blueprint, error); });
        return Blueprint(blueprint);
    }

    static Blueprint from_library(const std::string& name, uint64_t chunk, const std::string& attributes = "{}") {
        kasmina_blueprint blueprint{};
        check([&](auto error) {
            return kasmina_blueprint_from_library(name.c_str(), chunk, attributes.c_str(), &blueprint, error);
        });
        return Blueprint(blueprint);
    }

    std::string to_json() const {
        return take_bytes([&](auto out, auto error) { return kasmina_blueprint_to_json(handle(), out, error); });
    }

    std::array<uint8_t, 32> hash() const {
        std::array<uint8_t, 32> hash{};
        check([&](auto error) { return kasmina_blueprint_hash(handle(), hash.data(), error); });
        return hash;
    }

    uint64_t chunk() const {
        uint64_t chunk = 0;
        check([&](auto error) { return kasmina_blueprint_chunk(handle(), &chunk, error); });
        return chunk;
    }

    uint64_t parameter_count() const {
        uint64_t count = 0;
        check([&](auto error) { return kasmina_blueprint_parameter_count(handle(), &count, error); });
        return count;
    }

    /// The parameters that a seed germinates with.
    std::vector<double> initial_values(uint64_t random_seed) const {
        std::vector<double> values(parameter_count());
        check([&](auto error) {
            return kasmina_blueprint_initial_values(handle(), random_seed, values.data(), values.size(), error);
        });
        return values;
    }
};

/// Memory of a layer that outlives it: a hold, and the tensor that describes it.
class Exported : public Owned<kasmina_memory, kasmina_memory_release> {
  public:
    Exported(kasmina_memory memory, kasmina_tensor tensor) noexcept : Owned(memory), tensor_(tensor) {}

    const kasmina_tensor& tensor() const noexcept { return tensor_; }

    /// The elements, if they lie on the CPU and are of this type.
    template <typename Element>
    Element* data() const noexcept {
        return static_cast<Element*>(tensor_.data);
    }

    size_t elements() const noexcept {
        size_t count = 1;
        for (int32_t axis = 0; axis < tensor_.rank; ++axis) {
            count *= static_cast<size_t>(tensor_.shape[axis]);
        }
        return count;
    }

  private:
    kasmina_tensor tensor_;
};

/// A command to one seed, with no evidence.
inline kasmina_command command(uint32_t seed, kasmina_action action) {
    auto command = sized<kasmina_command>();
    command.seed = seed;
    command.action = action;
    command.validation_delta = command.stability = command.improvement = command.error_rate = std::nan("");
    return command;
}

/// A layer as it was; Layer::snapshot makes one.
class Snapshot : public Owned<kasmina_snapshot, kasmina_snapshot_destroy> {
  public:
    using Owned::Owned;

    kasmina_snapshot_info info() const {
        auto info = sized<kasmina_snapshot_info>();
        check([&](auto error) { return kasmina_snapshot_get_info(handle(), &info, error); });
        return info;
    }
};

/// A guard over the loss of a training. The thresholds that are not 0 are set in `guard`.
class LossGuard {
  public:
    explicit LossGuard(const kasmina_loss_guard& guard = sized<kasmina_loss_guard>()) : guard_(guard) {}

    /// Empty if the loss is one to train on; else why it is not.
    std::string judge(double loss) {
        struct Owner {
            kasmina_bytes* bytes = nullptr;
            ~Owner() { kasmina_bytes_destroy(bytes); }
        } owner;
        check([&](auto error) { return kasmina_loss_guard_judge(&guard_, loss, &owner.bytes, error); });
        return owner.bytes == nullptr ? std::string() : kasmina_bytes_data(owner.bytes);
    }

  private:
    kasmina_loss_guard guard_;
};

/// A layer. Streams are those of the C ABI: a cudaStream_t, null for the default one.
class Layer : public Owned<kasmina_layer, kasmina_layer_destroy> {
  public:
    using Owned::Owned;

    explicit Layer(const kasmina_layer_config& config) : Owned(create(config)) {}

    /// A layer on the CPU with parameters of this type; `settings` is JSON (docs/settings.md).
    Layer(uint64_t hidden, uint64_t seeds, kasmina_data_type parameter_type, const std::string& settings = "{}")
        : Owned(create(hidden, seeds, parameter_type, settings)) {}

    static Layer load(const std::string& path, kasmina_device_type device_type = KASMINA_DEVICE_TYPE_CPU,
                      int32_t device_index = 0) {
        kasmina_layer layer{};
        check([&](auto error) { return kasmina_layer_load(path.c_str(), device_type, device_index, &layer, error); });
        return Layer(layer);
    }

    static Layer from_bytes(std::string_view bytes, kasmina_device_type device_type = KASMINA_DEVICE_TYPE_CPU,
                            int32_t device_index = 0) {
        kasmina_layer layer{};
        check([&](auto error) {
            return kasmina_layer_from_bytes(bytes.data(), bytes.size(), device_type, device_index, &layer, error);
        });
        return Layer(layer);
    }

    /// A copy on a device, with parameters of a type, after all work on the stream.
    Layer copy(kasmina_device_type device_type, int32_t device_index, kasmina_data_type parameter_type,
               void* stream = nullptr) const {
        kasmina_layer copy{};
        check([&](auto error) {
            return kasmina_layer_copy(handle(), device_type, device_index, parameter_type, stream, &copy, error);
        });
        return Layer(copy);
    }

    kasmina_layer_info info() const {
        auto info = sized<kasmina_layer_info>();
        check([&](auto error) { return kasmina_layer_get_info(handle(), &info, error); });
        return info;
    }

    uint32_t add_blueprint(const Blueprint& blueprint, uint64_t capacity) {
        uint32_t index = 0;
        check([&](auto error) {
            return kasmina_layer_add_blueprint(handle(), blueprint.handle(), capacity, &index, error);
        });
        return index;
    }

    void prepare(kasmina_data_type type, uint32_t flags = 0) {
        check([&](auto error) { return kasmina_layer_prepare(handle(), type, flags, error); });
    }

    void wait_for_kernels() {
        check([&](auto error) { return kasmina_layer_wait_for_kernels(handle(), error); });
    }

    void submit(const std::vector<kasmina_command>& commands) {
        check([&](auto error) { return kasmina_layer_submit(handle(), commands.data(), commands.size(), error); });
    }

    void set_strategy(kasmina_strategy_callback callback, void* user_data) {
        check([&](auto error) { return kasmina_layer_set_strategy(handle(), callback, user_data, error); });
    }

    void set_metric(double metric) {
        check([&](auto error) { return kasmina_layer_set_metric(handle(), metric, error); });
    }

    /// The time for the circuit breakers, in seconds on any clock that does not go back.
    void set_time(double seconds) {
        check([&](auto error) { return kasmina_layer_set_time(handle(), seconds, error); });
    }

    /// What happened, as JSON.
    std::string end_epoch(void* stream = nullptr) {
        return take_bytes([&](auto out, auto error) { return kasmina_layer_end_epoch(handle(), stream, out, error); });
    }

    void roll_back(uint32_t seed, const std::string& reason, void* stream = nullptr) {
        check([&](auto error) { return kasmina_layer_roll_back(handle(), seed, reason.c_str(), stream, error); });
    }

    /// The layer as it is after the work on the stream, in memory of its own device.
    Snapshot snapshot(void* stream = nullptr) {
        kasmina_snapshot snapshot{};
        check([&](auto error) { return kasmina_snapshot_create(handle(), stream, &snapshot, error); });
        return Snapshot(snapshot);
    }

    /// The same into the memory of an earlier snapshot of this layer.
    void snapshot_into(Snapshot& snapshot, void* stream = nullptr) {
        check([&](auto error) { return kasmina_snapshot_take(snapshot.handle(), handle(), stream, error); });
    }

    /// Puts everything back as it was then; what was done, as JSON.
    std::string restore(const Snapshot& snapshot, const std::string& reason, void* stream = nullptr) {
        return take_bytes([&](auto out, auto error) {
            return kasmina_layer_restore(handle(), snapshot.handle(), reason.c_str(), stream, out, error);
        });
    }

    std::string report() const {
        return take_bytes([&](auto out, auto error) { return kasmina_layer_report(handle(), out, error); });
    }

    /// Lifecycle, blueprint, epochs and strategy of each seed.
    std::vector<std::array<int32_t, 4>> state() const {
        const std::string bytes =
            take_bytes([&](auto out, auto error) { return kasmina_layer_state(handle(), out, error); });
        std::vector<std::array<int32_t, 4>> state(bytes.size() / sizeof(std::array<int32_t, 4>));
        if (!state.empty()) {
            std::memcpy(state.data(), bytes.data(), bytes.size());
        }
        return state;
    }

    Exported array(kasmina_layer_array array) const {
        kasmina_memory memory{};
        auto tensor = sized<kasmina_tensor>();
        check([&](auto error) { return kasmina_layer_export_array(handle(), array, &memory, &tensor, error); });
        return Exported(memory, tensor);
    }

    Exported bank(uint32_t blueprint, kasmina_bank_array array = KASMINA_BANK_ARRAY_PARAMETERS) const {
        kasmina_memory memory{};
        auto tensor = sized<kasmina_tensor>();
        check(
            [&](auto error) { return kasmina_layer_export_bank(handle(), blueprint, array, &memory, &tensor, error); });
        return Exported(memory, tensor);
    }

    /// y may be x itself; then chunks of seeds that apply no blueprint are not written.
    void forward(const Tensor& x, const Tensor& y, void* stream = nullptr) const {
        const kasmina_tensor x_tensor = x.descriptor(), y_tensor = y.descriptor();
        auto arguments = sized<kasmina_forward>();
        arguments.x = &x_tensor;
        arguments.y = &y_tensor;
        forward(arguments, stream);
    }

    void forward(const kasmina_forward& arguments, void* stream = nullptr) const {
        check([&](auto error) { return kasmina_layer_forward(handle(), &arguments, stream, error); });
    }

    void backward(const kasmina_backward& arguments, void* stream = nullptr) const {
        check([&](auto error) { return kasmina_layer_backward(handle(), &arguments, stream, error); });
    }

    /// One step of isolated training towards x itself.
    void train(const Tensor& x, void* stream = nullptr) const {
        const kasmina_tensor x_tensor = x.descriptor();
        auto arguments = sized<kasmina_train>();
        arguments.x = &x_tensor;
        train(arguments, stream);
    }

    void train(const kasmina_train& arguments, void* stream = nullptr) const {
        check([&](auto error) { return kasmina_layer_train(handle(), &arguments, stream, error); });
    }

    void adamw(const kasmina_adamw& arguments, void* stream = nullptr) const {
        check([&](auto error) { return kasmina_layer_adamw(handle(), &arguments, stream, error); });
    }

    void save(const std::string& path, void* stream = nullptr) const {
        check([&](auto error) { return kasmina_layer_save(handle(), path.c_str(), stream, error); });
    }

    /// A checkpoint.
    std::string to_bytes(void* stream = nullptr) const {
        return take_bytes([&](auto out, auto error) { return kasmina_layer_to_bytes(handle(), stream, out, error); });
    }

  private:
    static kasmina_layer create(const kasmina_layer_config& config) {
        kasmina_layer layer{};
        check([&](auto error) { return kasmina_layer_create(&config, &layer, error); });
        return layer;
    }

    static kasmina_layer create(uint64_t hidden, uint64_t seeds, kasmina_data_type type, const std::string& settings) {
        auto config = sized<kasmina_layer_config>();
        config.hidden = hidden;
        config.seeds = seeds;
        config.device_type = KASMINA_DEVICE_TYPE_CPU;
        config.parameter_type = type;
        config.settings = settings.c_str();
        return create(config);
    }
};

/// What the process has compiled and found.
inline kasmina_statistics statistics() {
    auto statistics = sized<kasmina_statistics>();
    check([&](auto error) { return kasmina_get_statistics(&statistics, error); });
    return statistics;
}

/// Ends the use of the library in this process.
inline void shutdown() {
    check([](auto error) { return kasmina_shutdown(error); });
}

} // namespace kasmina

#endif
