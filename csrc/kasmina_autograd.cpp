// Derivatives of the layer's operators, for torch's autograd.
//
// The operators themselves live in kasmina_torch.cpp, against LibTorch's stable ABI, which has no autograd. This unit
// is the rest: it uses the full C++ API, so it is built against the torch it is loaded into. It knows nothing of what
// the operators do beyond their schemas.
//
// Five rules are kept here:
// - A forward pass that runs inside a backward pass is a recomputation (activation checkpointing). It must not observe
//   or train a second time, so it runs without telemetry, and observe and train_ do nothing.
// - forward_ overwrites what its backward pass reads, so where gradients are wanted a copy of it is kept. That costs
//   more than forward does: it is right, and meant for evaluation.
// - adamw_ writes what a backward pass may still need, so it bumps the version counter that lets autograd notice a
//   stale save. train_ does not: it writes only slots of seeds in TRAINING, which no pass reads, and a network that
//   runs a layer twice before its backward pass must not see the difference.
// - While no seed applies a blueprint, the gradient of y is handed on as that of x, as by torch's own operators that
//   compute nothing of it. What records a graph has the operator, which stays right when seeds change.
// - Second derivatives are refused with a sentence, not dropped.

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/VariableTypeUtils.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/graph_task.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>
#include <torch/version.h>

#include <mutex>

namespace {

using at::Tensor;
using at::TensorList;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;

using ForwardSignature = Tensor(const Tensor& x, const Tensor& alpha, TensorList banks, const OptionalTensor& telemetry,
                                int64_t layer, bool deterministic, const OptionalTensor& random);
using ForwardInPlaceSignature = void(const Tensor& x, const Tensor& alpha, TensorList banks,
                                     const OptionalTensor& telemetry, int64_t layer, bool deterministic,
                                     const OptionalTensor& random);
using ObserveSignature = void(const Tensor& x, const Tensor& telemetry, int64_t layer, bool deterministic);
using ObserveGradientSignature = bool(const Tensor& output_gradient, const OptionalTensor& telemetry, int64_t layer,
                                      bool deterministic);
using BackwardSignature = std::tuple<Tensor, Tensor>(const Tensor& output_gradient, const Tensor& x,
                                                     const Tensor& alpha, TensorList banks, TensorList bank_gradients,
                                                     const OptionalTensor& telemetry, int64_t layer,
                                                     bool alpha_gradient, bool deterministic,
                                                     const OptionalTensor& random);
using TrainSignature = void(const Tensor& x, const OptionalTensor& target, TensorList banks, int64_t layer,
                            bool deterministic);
using AdamwSignature = void(const Tensor& bank, const Tensor& gradient, int64_t layer, int64_t blueprint,
                            double learning_rate, double beta1, double beta2, double epsilon, double weight_decay);

template <typename Signature>
c10::TypedOperatorHandle<Signature> find(const char* name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

/// Whether the caller runs inside a backward pass, recomputing what a forward pass did not keep.
bool recomputing() {
    return torch::autograd::get_current_graph_task_id() != -1;
}

/// The node that a forward pass leaves in the autograd graph. Its inputs are x, alpha and the banks, in this order.
struct LayerBackward final : torch::autograd::Node {
    SavedVariable x;
    SavedVariable alpha;
    std::vector<SavedVariable> banks;
    // Not a SavedVariable: telemetry is written by every pass and read by none, so its version means nothing here.
    OptionalTensor telemetry;
    SavedVariable random;
    int64_t layer = 0;
    bool deterministic = false;

    std::string name() const override { return "KasminaLayerBackward"; }

    void release_variables() override {
        std::lock_guard<std::mutex> lock(mutex_);
        x.reset_data();
        alpha.reset_data();
        for (auto& bank : banks) {
            bank.reset_data();
        }
        telemetry.reset();
        random.reset_data();
    }

    variable_list apply(variable_list&& gradients) override {
        static const auto backward = find<BackwardSignature>("kasmina::backward");
        std::lock_guard<std::mutex> lock(mutex_);
        variable_list result(2 + banks.size());
        if (!gradients[0].defined()) {
            return result;
        }
        const auto unpacked_x = x.unpack();
        const auto unpacked_alpha = alpha.unpack();
        std::vector<Tensor> unpacked_banks;
        std::vector<Tensor> bank_gradients;
        for (size_t i = 0; i < banks.size(); ++i) {
            unpacked_banks.push_back(banks[i].unpack());
            bank_gradients.push_back(at::zeros_like(unpacked_banks[i]));
        }
        const auto unpacked_random = random.unpack();
        const auto drawn = unpacked_random.defined() ? OptionalTensor(unpacked_random) : OptionalTensor();
        const bool alpha_gradient = task_should_compute_output(1);
        Tensor x_gradient, computed_alpha_gradient;
        if (!alpha_gradient && passes(gradients[0])) {
            x_gradient = gradients[0];
        } else {
            std::tie(x_gradient, computed_alpha_gradient) =
                backward.call(gradients[0], unpacked_x, unpacked_alpha, unpacked_banks, bank_gradients, telemetry,
                              layer, alpha_gradient, deterministic, drawn);
        }
        if (task_should_compute_output(0)) {
            result[0] = x_gradient;
        }
        if (alpha_gradient) {
            result[1] = computed_alpha_gradient;
        }
        for (size_t i = 0; i < banks.size(); ++i) {
            if (task_should_compute_output(2 + i)) {
                result[2 + i] = bank_gradients[i];
            }
        }
        return result;
    }

    /// Whether the gradient of x is that of y, which then has been observed. In a graph of derivatives, or one that is
    /// recorded, the operator has to be.
    bool passes(const Tensor& gradient) const {
        static const auto observe = find<ObserveGradientSignature>("kasmina::observe_gradient");
        return !at::GradMode::is_enabled() && !at::isTensorSubclassLike(gradient) &&
               observe.call(gradient, telemetry, layer, deterministic);
    }
};

void refuse_forward_mode(const Tensor& x, TensorList banks) {
    TORCH_CHECK_NOT_IMPLEMENTED(!torch::autograd::isFwGradDefined(x) &&
                                    !torch::autograd::isFwGradDefinedTensorList(banks),
                                "kasmina::forward has no forward-mode derivative; use reverse mode (backward).");
}

/// The node of a pass whose input is `x`; the backward pass reads `saved`, which holds what x held.
std::shared_ptr<LayerBackward> node_of(const Tensor& x, const Tensor& saved, const Tensor& alpha, TensorList banks,
                                       const OptionalTensor& telemetry, int64_t layer, bool deterministic,
                                       const OptionalTensor& random) {
    auto node = std::make_shared<LayerBackward>();
    node->set_next_edges(torch::autograd::collect_next_edges(x, alpha, banks));
    node->x = SavedVariable(saved, false);
    node->alpha = SavedVariable(alpha, false);
    for (const auto& bank : banks) {
        node->banks.emplace_back(bank, false);
    }
    node->telemetry = telemetry;
    node->random = SavedVariable(random.value_or(Tensor()), false);
    node->layer = layer;
    node->deterministic = deterministic;
    return node;
}

Tensor forward(const Tensor& x, const Tensor& alpha, TensorList banks, const OptionalTensor& telemetry, int64_t layer,
               bool deterministic, const OptionalTensor& random) {
    static const auto operation = find<ForwardSignature>("kasmina::forward");
    refuse_forward_mode(x, banks);
    std::shared_ptr<LayerBackward> node;
    const OptionalTensor observed = recomputing() ? OptionalTensor() : telemetry;
    if (torch::autograd::compute_requires_grad(x, alpha, banks)) {
        node = node_of(x, x, alpha, banks, telemetry, layer, deterministic, random);
    }
    auto y = [&] {
        at::AutoDispatchBelowAutograd below;
        return operation.call(x, alpha, banks, observed, layer, deterministic, random);
    }();
    if (node) {
        torch::autograd::set_history(y, node);
    }
    return y;
}

void forward_in_place(const Tensor& x, const Tensor& alpha, TensorList banks, const OptionalTensor& telemetry,
                      int64_t layer, bool deterministic, const OptionalTensor& random) {
    static const auto operation = find<ForwardInPlaceSignature>("kasmina::forward_");
    refuse_forward_mode(x, banks);
    const OptionalTensor observed = recomputing() ? OptionalTensor() : telemetry;
    const bool differentiable = torch::autograd::compute_requires_grad(x, alpha, banks);
    torch::autograd::check_inplace(x, differentiable);
    std::shared_ptr<LayerBackward> node;
    if (differentiable) {
        node = node_of(x, x.clone(), alpha, banks, telemetry, layer, deterministic, random);
    }
    {
        at::AutoDispatchBelowAutograd below;
        operation.call(x, alpha, banks, observed, layer, deterministic, random);
    }
    if (node) {
        torch::autograd::rebase_history(x, node);
    }
}

/// Views and saved tensors learn that x is another one, in inference mode too, where the function above is not called.
void forward_in_place_counted(const Tensor& x, const Tensor& alpha, TensorList banks, const OptionalTensor& telemetry,
                              int64_t layer, bool deterministic, const OptionalTensor& random) {
    static const auto operation = find<ForwardInPlaceSignature>("kasmina::forward_");
    {
        at::AutoDispatchBelowADInplaceOrView below;
        operation.call(x, alpha, banks, telemetry, layer, deterministic, random);
    }
    torch::autograd::increment_version(x);
}

void observe(const Tensor& x, const Tensor& telemetry, int64_t layer, bool deterministic) {
    static const auto operation = find<ObserveSignature>("kasmina::observe");
    if (recomputing()) {
        return;
    }
    at::AutoDispatchBelowAutograd below;
    operation.call(x, telemetry, layer, deterministic);
}

bool observe_gradient(const Tensor& output_gradient, const OptionalTensor& telemetry, int64_t layer,
                      bool deterministic) {
    static const auto operation = find<ObserveGradientSignature>("kasmina::observe_gradient");
    at::AutoDispatchBelowAutograd below;
    return operation.call(output_gradient, telemetry, layer, deterministic);
}

std::tuple<Tensor, Tensor> backward(const Tensor& output_gradient, const Tensor& x, const Tensor& alpha,
                                    TensorList banks, TensorList bank_gradients, const OptionalTensor& telemetry,
                                    int64_t layer, bool alpha_gradient, bool deterministic,
                                    const OptionalTensor& random) {
    static const auto operation = find<BackwardSignature>("kasmina::backward");
    const bool differentiable = torch::autograd::compute_requires_grad(output_gradient, x, alpha, banks);
    auto gradients = [&] {
        at::AutoDispatchBelowAutograd below;
        return operation.call(output_gradient, x, alpha, banks, bank_gradients, telemetry, layer, alpha_gradient,
                              deterministic, random);
    }();
    if (differentiable) {
        auto refuse = std::make_shared<torch::autograd::Error>(
            "A Kasmina layer has no second derivative: compute its gradients without create_graph=True.",
            torch::autograd::collect_next_edges(output_gradient, x, alpha, banks));
        torch::autograd::set_history(std::get<0>(gradients), refuse);
        torch::autograd::set_history(std::get<1>(gradients), refuse);
        for (const auto& bank_gradient : bank_gradients) {
            if (!bank_gradient.requires_grad()) {
                torch::autograd::set_history(bank_gradient, refuse);
            }
        }
    }
    return gradients;
}

void train(const Tensor& x, const OptionalTensor& target, TensorList banks, int64_t layer, bool deterministic) {
    static const auto operation = find<TrainSignature>("kasmina::train_");
    if (recomputing()) {
        return;
    }
    at::AutoDispatchBelowAutograd below;
    at::NoGradGuard no_grad;
    operation.call(x, target, banks, layer, deterministic);
}

void adamw(const Tensor& bank, const Tensor& gradient, int64_t layer, int64_t blueprint, double learning_rate,
           double beta1, double beta2, double epsilon, double weight_decay) {
    static const auto operation = find<AdamwSignature>("kasmina::adamw_");
    at::AutoDispatchBelowAutograd below;
    at::NoGradGuard no_grad;
    operation.call(bank, gradient, layer, blueprint, learning_rate, beta1, beta2, epsilon, weight_decay);
    torch::autograd::increment_version(bank);
}

} // namespace

TORCH_LIBRARY_IMPL(kasmina, Autograd, library) {
    library.impl("forward", forward);
    library.impl("forward_", forward_in_place);
    library.impl("observe", observe);
    library.impl("observe_gradient", observe_gradient);
    library.impl("backward", backward);
    library.impl("train_", train);
    library.impl("adamw_", adamw);
}

TORCH_LIBRARY_IMPL(kasmina, ADInplaceOrView, library) {
    library.impl("forward_", forward_in_place_counted);
}

/// The version of torch this was built against, for a loader to compare with the one that runs.
extern "C" __attribute__((visibility("default"))) const char* kasmina_autograd_torch_version() {
    return TORCH_VERSION;
}
