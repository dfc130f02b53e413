// The layer as torch operators, `torch.ops.kasmina`: schemas, and kernels for CPU, CUDA and meta tensors.
//
// Only LibTorch's stable ABI is used, so one binary serves torch 2.11 and later under any Python. Tensors become
// descriptors and the C ABI is called; it does all checking of shapes, types and devices. Derivatives are in
// kasmina_autograd.cpp, because the stable ABI has no autograd.
//
// What the schemas say beyond the obvious:
// - A layer is an integer: the id of its handle.
// - x is `[..., hidden]` in any strides; y comes back in the same strides, if they are dense, and the gradient of x in
//   those of y's, as it would without the layer. So `[N, channels, *spatial]` is passed as `x.movedim(1, -1)`, in
//   whatever memory format, and nothing is copied.
// - `forward_` writes x instead. It returns nothing, because torch cannot functionalise an operator of one's own whose
//   result is its argument; the Python layer gives x back.
// - Telemetry is written, so it is an argument; without it nothing is observed.
// - `observe` is the forward pass of a layer in which no seed applies a blueprint, for who takes x itself as its
// result.
// - `observe_gradient` does so instead of the backward pass, if it may: it says whether the gradient of x is that of y.
// - `backward` adds the parameters' gradients to tensors it is given. It would be natural to return a list of new ones,
//   but torch cannot functionalise an operator that both writes to an argument and returns a list.
// - `random` is the key of what blueprints draw; without it dropout is not active. It is a tensor, so that torch's own
//   generator makes it, a captured graph draws anew, and nothing waits.
// - `deterministic` is an argument because the stable ABI cannot ask torch for its global setting.

#include "tensors.hpp"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <dlfcn.h>

namespace kasmina::torch_ops {
namespace {

/// Makes the device of a tensor current, and knows torch's current stream on it.
class Launch {
  public:
    explicit Launch(const Tensor& tensor) {
        if (!tensor.is_cuda()) {
            return;
        }
        const auto device = tensor.get_device_index();
        guard_.emplace(device);
        TORCH_ERROR_CODE_CHECK(current_stream()(device, &stream_));
    }

    void* stream() const { return stream_; }

  private:
    using CurrentStream = AOTITorchError (*)(int32_t, void**);

    /// A tensor on a CUDA device means that torch's CUDA library is loaded. It is looked up here and not linked, so
    /// that this library also loads beside a torch that has no CUDA.
    static CurrentStream current_stream() {
        static const auto function = [] {
            void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
            void* symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
            if (!symbol) {
                throw std::runtime_error("kasmina: torch's CUDA library is not loaded, so there is no current stream");
            }
            return reinterpret_cast<CurrentStream>(symbol);
        }();
        return function;
    }

    std::optional<torch::stable::accelerator::DeviceGuard> guard_;
    void* stream_ = nullptr;
};

kasmina_layer handle(int64_t layer) {
    return kasmina_layer{static_cast<uint64_t>(layer)};
}

/// Without the flag, the C ABI reads "no telemetry" as "the layer's own".
uint32_t flags(bool deterministic, bool observes) {
    return (deterministic ? KASMINA_DETERMINISTIC : 0) | (observes ? 0 : KASMINA_NO_TELEMETRY);
}

/// Runs the layer on `input` and writes `output`, which may be the same tensor.
void run_forward(const Tensor& input, const Tensor& output, const Tensor& alpha, const std::vector<Tensor>& banks,
                 const std::optional<Tensor>& telemetry, int64_t layer, bool deterministic,
                 const std::optional<Tensor>& random, void* stream) {
    const Descriptor x_view(input), y_view(output), alpha_view(alpha);
    const OptionalDescriptor telemetry_view(telemetry), random_view(random);
    const Descriptors bank_views(banks);
    kasmina_forward call{};
    call.struct_size = sizeof(call);
    call.x = x_view.get();
    call.y = y_view.get();
    call.alpha = alpha_view.get();
    call.banks = bank_views.data();
    call.bank_count = bank_views.size();
    call.telemetry = telemetry_view.get();
    call.random = random_view.get();
    call.flags = flags(deterministic, telemetry.has_value());
    checked([&](kasmina_error** error) { return kasmina_layer_forward(handle(layer), &call, stream, error); });
}

Tensor forward(const Tensor& x, const Tensor& alpha, const std::vector<Tensor>& banks,
               const std::optional<Tensor>& telemetry, int64_t layer, bool deterministic,
               const std::optional<Tensor>& random) {
    const Launch launch(x);
    Result y(x);
    run_forward(readable(x), y.written(), alpha, banks, telemetry, layer, deterministic, random, launch.stream());
    return y.take();
}

Tensor forward_meta(const Tensor& x, const Tensor&, const std::vector<Tensor>&, const std::optional<Tensor>&, int64_t,
                    bool, const std::optional<Tensor>&) {
    return torch::stable::empty_like(x);
}

/// The library writes nothing where a seed is identity. Strides that it does not walk cost a copy in and one back.
void forward_in_place(const Tensor& x, const Tensor& alpha, const std::vector<Tensor>& banks,
                      const std::optional<Tensor>& telemetry, int64_t layer, bool deterministic,
                      const std::optional<Tensor>& random) {
    const Launch launch(x);
    refuse_repeated(x);
    const Tensor walked = readable(x);
    run_forward(walked, walked, alpha, banks, telemetry, layer, deterministic, random, launch.stream());
    if (walked.data_ptr() != x.data_ptr()) {
        Tensor written = x;
        torch::stable::copy_(written, walked);
    }
}

void forward_in_place_meta(const Tensor&, const Tensor&, const std::vector<Tensor>&, const std::optional<Tensor>&,
                           int64_t, bool, const std::optional<Tensor>&) {}

void observe(const Tensor& x, const Tensor& telemetry, int64_t layer, bool deterministic) {
    const Launch launch(x);
    const Tensor input = readable(x);
    const Descriptor x_view(input), telemetry_view(telemetry);
    kasmina_forward call{};
    call.struct_size = sizeof(call);
    call.x = x_view.get();
    call.telemetry = telemetry_view.get();
    call.flags = flags(deterministic, true);
    checked([&](kasmina_error** error) { return kasmina_layer_forward(handle(layer), &call, launch.stream(), error); });
}

void observe_meta(const Tensor&, const Tensor&, int64_t, bool) {}

/// A graph that is being captured has to stay right when seeds change, which is what "not ready" says.
bool observe_gradient(const Tensor& output_gradient, const std::optional<Tensor>& telemetry, int64_t layer,
                      bool deterministic) {
    kasmina_layer_info info{};
    info.struct_size = sizeof(info);
    checked([&](kasmina_error** error) { return kasmina_layer_get_info(handle(layer), &info, error); });
    if (info.applies) {
        return false;
    }
    const Launch launch(output_gradient);
    const Tensor gradient = readable(output_gradient);
    const Descriptor gradient_view(gradient);
    const OptionalDescriptor telemetry_view(telemetry);
    kasmina_backward call{};
    call.struct_size = sizeof(call);
    call.output_gradient = gradient_view.get();
    call.telemetry = telemetry_view.get();
    call.flags = flags(deterministic, telemetry.has_value());
    bool captured = false;
    checked([&](kasmina_error** error) {
        const auto status = kasmina_layer_backward(handle(layer), &call, launch.stream(), error);
        captured = status == KASMINA_STATUS_NOT_READY;
        if (captured) {
            kasmina_error_destroy(*error);
        }
        return captured ? KASMINA_STATUS_OK : status;
    });
    return !captured;
}

bool observe_gradient_meta(const Tensor&, const std::optional<Tensor>&, int64_t, bool) {
    return false;
}

std::tuple<Tensor, Tensor> backward(const Tensor& output_gradient, const Tensor& x, const Tensor& alpha,
                                    const std::vector<Tensor>& banks, const std::vector<Tensor>& bank_gradients,
                                    const std::optional<Tensor>& telemetry, int64_t layer, bool alpha_gradient,
                                    bool deterministic, const std::optional<Tensor>& random) {
    const Launch launch(x);
    const Tensor input = readable(x);
    const Tensor gradient = readable(output_gradient);
    Result input_gradient(output_gradient);
    const std::array<int64_t, 1> none{0}, dense{1};
    const Tensor computed_alpha_gradient =
        alpha_gradient ? torch::stable::new_zeros(alpha, {alpha.numel()}) : empty(none, dense, alpha);
    const Descriptor x_view(input), gradient_view(gradient), input_gradient_view(input_gradient.written()),
        alpha_view(alpha), alpha_gradient_view(computed_alpha_gradient);
    const OptionalDescriptor telemetry_view(telemetry), random_view(random);
    const Descriptors bank_views(banks), bank_gradient_views(bank_gradients);
    kasmina_backward call{};
    call.struct_size = sizeof(call);
    call.x = x_view.get();
    call.output_gradient = gradient_view.get();
    call.input_gradient = input_gradient_view.get();
    call.alpha = alpha_view.get();
    call.banks = bank_views.data();
    call.bank_count = bank_views.size();
    call.bank_gradients = bank_gradient_views.data();
    call.bank_gradient_count = bank_gradient_views.size();
    call.alpha_gradient = alpha_gradient ? alpha_gradient_view.get() : nullptr;
    call.telemetry = telemetry_view.get();
    call.random = random_view.get();
    call.flags = flags(deterministic, telemetry.has_value());
    checked(
        [&](kasmina_error** error) { return kasmina_layer_backward(handle(layer), &call, launch.stream(), error); });
    return {input_gradient.take(), computed_alpha_gradient};
}

std::tuple<Tensor, Tensor> backward_meta(const Tensor& output_gradient, const Tensor&, const Tensor& alpha,
                                         const std::vector<Tensor>&, const std::vector<Tensor>&,
                                         const std::optional<Tensor>&, int64_t, bool alpha_gradient, bool,
                                         const std::optional<Tensor>&) {
    return {torch::stable::empty_like(output_gradient),
            alpha_gradient ? torch::stable::empty_like(alpha) : torch::stable::new_zeros(alpha, {0})};
}

/// Makes a tensor of memory that the library exported; the memory lives for as long as the tensor's storage.
Tensor adopt(kasmina_memory memory, const kasmina_tensor& exported) {
    const bool cuda = exported.device_type == KASMINA_DEVICE_TYPE_CUDA;
    const torch::stable::Device device(cuda ? torch::headeronly::DeviceType::CUDA : torch::headeronly::DeviceType::CPU,
                                       cuda ? exported.device_index : -1);
    const std::vector<int64_t> shape(exported.shape, exported.shape + exported.rank);
    std::vector<int64_t> strides(shape.size(), 1);
    for (size_t axis = shape.size(); axis-- > 1;) {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    return torch::stable::from_blob(exported.data, shape, strides, device, to_torch(exported.data_type),
                                    [memory](void*) { kasmina_memory_release(memory, nullptr); });
}

Tensor state(int64_t layer, int64_t array) {
    kasmina_memory memory{};
    kasmina_tensor exported{};
    exported.struct_size = sizeof(exported);
    checked([&](kasmina_error** error) {
        return kasmina_layer_export_array(handle(layer), static_cast<int32_t>(array), &memory, &exported, error);
    });
    return adopt(memory, exported);
}

Tensor bank(int64_t layer, int64_t blueprint, int64_t array) {
    kasmina_memory memory{};
    kasmina_tensor exported{};
    exported.struct_size = sizeof(exported);
    checked([&](kasmina_error** error) {
        return kasmina_layer_export_bank(handle(layer), static_cast<uint32_t>(blueprint), static_cast<int32_t>(array),
                                         &memory, &exported, error);
    });
    return adopt(memory, exported);
}

/// The library trains in its own memory. The banks usually are that memory; under functionalisation they are copies of
/// it, which are then copied in before and out after.
void train(const Tensor& x, const std::optional<Tensor>& target, const std::vector<Tensor>& banks, int64_t layer,
           bool deterministic) {
    const Launch launch(x);
    const Tensor input = readable(x);
    const std::optional<Tensor> aim = target ? std::optional(readable(*target)) : std::nullopt;
    const Descriptor x_view(input);
    const OptionalDescriptor target_view(aim);
    std::vector<std::pair<Tensor, Tensor>> copies;
    for (size_t i = 0; i < banks.size(); ++i) {
        Tensor own = bank(layer, static_cast<int64_t>(i), KASMINA_BANK_ARRAY_PARAMETERS);
        if (own.data_ptr() != banks[i].data_ptr()) {
            torch::stable::copy_(own, banks[i], true);
            copies.emplace_back(banks[i], own);
        }
    }
    kasmina_train call{};
    call.struct_size = sizeof(call);
    call.x = x_view.get();
    call.target = target_view.get();
    call.flags = flags(deterministic, true);
    checked([&](kasmina_error** error) { return kasmina_layer_train(handle(layer), &call, launch.stream(), error); });
    for (auto& [copy, own] : copies) {
        torch::stable::copy_(copy, own, true);
    }
}

void train_meta(const Tensor&, const std::optional<Tensor>&, const std::vector<Tensor>&, int64_t, bool) {}

void adamw(const Tensor& bank, const Tensor& gradient, int64_t layer, int64_t blueprint, double learning_rate,
           double beta1, double beta2, double epsilon, double weight_decay) {
    const Launch launch(bank);
    const Tensor dense_gradient = torch::stable::contiguous(gradient);
    const Descriptor bank_view(bank), gradient_view(dense_gradient);
    kasmina_adamw call{};
    call.struct_size = sizeof(call);
    call.blueprint = static_cast<uint32_t>(blueprint);
    call.parameters = bank_view.get();
    call.gradient = gradient_view.get();
    call.learning_rate = learning_rate;
    call.beta1 = beta1;
    call.beta2 = beta2;
    call.epsilon = epsilon;
    call.weight_decay = weight_decay;
    checked([&](kasmina_error** error) { return kasmina_layer_adamw(handle(layer), &call, launch.stream(), error); });
}

void adamw_meta(const Tensor&, const Tensor&, int64_t, int64_t, double, double, double, double, double) {}

} // namespace
} // namespace kasmina::torch_ops

STABLE_TORCH_LIBRARY(kasmina, library) {
    library.def("forward(Tensor x, Tensor alpha, Tensor[] banks, Tensor(a!)? telemetry, int layer, "
                "bool deterministic=False, Tensor? random=None) -> Tensor");
    library.def("forward_(Tensor(a!) x, Tensor alpha, Tensor[] banks, Tensor(b!)? telemetry, int layer, "
                "bool deterministic=False, Tensor? random=None) -> ()");
    library.def("observe(Tensor x, Tensor(a!) telemetry, int layer, bool deterministic=False) -> ()");
    library.def("observe_gradient(Tensor output_gradient, Tensor(a!)? telemetry, int layer, bool deterministic=False) "
                "-> bool");
    library.def("backward(Tensor output_gradient, Tensor x, Tensor alpha, Tensor[] banks, "
                "Tensor(a!)[] bank_gradients, Tensor(b!)? telemetry, int layer, bool alpha_gradient, "
                "bool deterministic=False, Tensor? random=None) -> (Tensor, Tensor)");
    library.def("train_(Tensor x, Tensor? target, Tensor(a!)[] banks, int layer, bool deterministic=False) -> ()");
    library.def("adamw_(Tensor(a!) bank, Tensor gradient, int layer, int blueprint, float learning_rate, "
                "float beta1, float beta2, float epsilon, float weight_decay) -> ()");
    library.def("state(int layer, int array) -> Tensor");
    library.def("bank(int layer, int blueprint, int array) -> Tensor");
}

// Both devices run the same functions: the layer knows which one it lives on.
STABLE_TORCH_LIBRARY_IMPL(kasmina, CPU, library) {
    library.impl("forward", TORCH_BOX(&kasmina::torch_ops::forward));
    library.impl("forward_", TORCH_BOX(&kasmina::torch_ops::forward_in_place));
    library.impl("observe", TORCH_BOX(&kasmina::torch_ops::observe));
    library.impl("observe_gradient", TORCH_BOX(&kasmina::torch_ops::observe_gradient));
    library.impl("backward", TORCH_BOX(&kasmina::torch_ops::backward));
    library.impl("train_", TORCH_BOX(&kasmina::torch_ops::train));
    library.impl("adamw_", TORCH_BOX(&kasmina::torch_ops::adamw));
}

STABLE_TORCH_LIBRARY_IMPL(kasmina, CUDA, library) {
    library.impl("forward", TORCH_BOX(&kasmina::torch_ops::forward));
    library.impl("forward_", TORCH_BOX(&kasmina::torch_ops::forward_in_place));
    library.impl("observe", TORCH_BOX(&kasmina::torch_ops::observe));
    library.impl("observe_gradient", TORCH_BOX(&kasmina::torch_ops::observe_gradient));
    library.impl("backward", TORCH_BOX(&kasmina::torch_ops::backward));
    library.impl("train_", TORCH_BOX(&kasmina::torch_ops::train));
    library.impl("adamw_", TORCH_BOX(&kasmina::torch_ops::adamw));
}

STABLE_TORCH_LIBRARY_IMPL(kasmina, Meta, library) {
    library.impl("forward", TORCH_BOX(&kasmina::torch_ops::forward_meta));
    library.impl("forward_", TORCH_BOX(&kasmina::torch_ops::forward_in_place_meta));
    library.impl("observe", TORCH_BOX(&kasmina::torch_ops::observe_meta));
    library.impl("observe_gradient", TORCH_BOX(&kasmina::torch_ops::observe_gradient_meta));
    library.impl("backward", TORCH_BOX(&kasmina::torch_ops::backward_meta));
    library.impl("train_", TORCH_BOX(&kasmina::torch_ops::train_meta));
    library.impl("adamw_", TORCH_BOX(&kasmina::torch_ops::adamw_meta));
}

STABLE_TORCH_LIBRARY_IMPL(kasmina, CompositeExplicitAutograd, library) {
    library.impl("state", TORCH_BOX(&kasmina::torch_ops::state));
    library.impl("bank", TORCH_BOX(&kasmina::torch_ops::bank));
}
