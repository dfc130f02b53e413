// A layer grows through kasmina.hpp: from germination to a fossil, with evidence for each gate. The blueprint is the
// library's residual, x + w s, so the reference is one line.

#include <kasmina/kasmina.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int64_t HIDDEN = 6, SEEDS = 2, CHUNK = 3, ROWS = 4;
constexpr uint32_t SEED = 0;

void require(bool condition, const std::string& what) {
    if (!condition) {
        std::fprintf(stderr, "not so: %s\n", what.c_str());
        std::exit(1);
    }
}

void require_close(const std::string& what, double found, double expected) {
    require(std::abs(found - expected) <= 1e-5 * (1.0 + std::abs(expected)),
            what + " is " + std::to_string(expected) + ", found " + std::to_string(found));
}

/// The call throws this status with a sentence.
void require_error(kasmina_status status, const std::function<void()>& call) {
    try {
        call();
    } catch (const kasmina::Error& error) {
        require(error.error_class() != KASMINA_ERROR_CLASS_DEFECT, "it is no defect of the library");
        require(error.status() == status, "status " + std::to_string(status) + " for: " + error.what());
        require(*error.what() != 0, "the error has a message");
        return;
    }
    require(false, "the call fails with status " + std::to_string(status));
}

kasmina_command with_evidence(kasmina_action action) {
    auto command = kasmina::command(SEED, action);
    command.validation_delta = 0.1;
    command.stability = 1.0;
    command.improvement = 0.5;
    return command;
}

/// Commands the seed and ends epochs, each with the same work, until it obeys.
void advance(kasmina::Layer& layer, kasmina_action action, kasmina_lifecycle next, const std::function<void()>& work) {
    std::string reason;
    for (int epoch = 0; epoch < 1000; ++epoch) {
        work();
        bool submitted = true;
        try {
            layer.submit({with_evidence(action)});
        } catch (const kasmina::Error& error) {
            require(error.status() == KASMINA_STATUS_TRANSITION_REFUSED || error.status() == KASMINA_STATUS_NOT_READY,
                    std::string("a gate refuses: ") + error.what());
            reason = error.what();
            submitted = false;
        }
        layer.end_epoch();
        if (submitted) {
            require(layer.state()[SEED][0] == next, "the seed is in state " + std::to_string(next));
            return;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    require(false, "the seed obeys; last: " + reason);
}

void grow() {
    kasmina::Layer layer(HIDDEN, SEEDS, KASMINA_DATA_TYPE_F32, R"({"ramp_steps": 3})");
    const auto blueprint = kasmina::Blueprint::from_library("residual", CHUNK);
    require(blueprint.chunk() == CHUNK && blueprint.parameter_count() == CHUNK + 1, "residual has w and s");
    require(kasmina::Blueprint::from_json(blueprint.to_json()).hash() == blueprint.hash(), "JSON keeps the blueprint");
    require(blueprint.initial_values(7).back() == 1, "residual begins with s = 1");
    require(layer.add_blueprint(blueprint, 1) == 0, "the first blueprint has index 0");

    std::vector<float> x(ROWS * HIDDEN), y(x.size()), dy(x.size()), dx(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
        x[i] = std::sin(0.9f * static_cast<float>(i));
        dy[i] = std::cos(0.3f * static_cast<float>(i));
    }
    // The rows of x lie in two dimensions, those of y in one.
    const kasmina::Tensor x_tensor(x.data(), {2, ROWS / 2, HIDDEN});
    const kasmina::Tensor y_tensor(y.data(), {ROWS, HIDDEN});
    const auto forward = [&] { layer.forward(x_tensor, y_tensor); };
    const auto train = [&] {
        forward();
        require(x == y, "an isolated seed changes nothing");
        layer.train(x_tensor);
    };

    layer.submit({kasmina::command(SEED, KASMINA_ACTION_GERMINATE)});
    require(layer.end_epoch().find("germinate") != std::string::npos, "the summary tells of the germination");
    layer.prepare(KASMINA_DATA_TYPE_F32, KASMINA_ALPHA_GRADIENT);
    advance(layer, KASMINA_ACTION_START_TRAINING, KASMINA_LIFECYCLE_TRAINING, forward);
    advance(layer, KASMINA_ACTION_START_GRAFTING, KASMINA_LIFECYCLE_GRAFTING, train);

    // Half way up the ramp, with parameters of our own.
    layer.end_epoch();
    const auto parameters = layer.bank(0);
    require(parameters.elements() == CHUNK + 1, "one slot");
    float* values = parameters.data<float>();
    for (int i = 0; i <= CHUNK; ++i) {
        values[i] = 0.5f + 0.25f * static_cast<float>(i);
    }
    const double alpha = layer.array(KASMINA_LAYER_ARRAY_ALPHA).data<float>()[SEED];
    require(alpha > 0.0 && alpha < 1.0, "alpha is on its way");
    forward();
    for (int64_t row = 0; row < ROWS; ++row) {
        for (int64_t channel = 0; channel < HIDDEN; ++channel) {
            const int64_t i = row * HIDDEN + channel;
            const double added = channel < CHUNK ? alpha * values[channel] * values[CHUNK] : 0.0;
            require_close("y", y[i], x[i] + added);
        }
    }
    std::vector<float> in_place = x;
    const kasmina::Tensor in_place_tensor(in_place.data(), {ROWS, HIDDEN});
    layer.forward(in_place_tensor, in_place_tensor);
    require(in_place == y, "in the memory of its input the output has the same bits");

    // dx = dy, dw = alpha s dy, ds = alpha sum(dy w).
    std::vector<float> gradient(CHUNK + 1);
    const kasmina::Tensor dy_tensor(dy.data(), {ROWS, HIDDEN}), dx_tensor(dx.data(), {ROWS, HIDDEN});
    const kasmina::Tensor gradient_tensor(gradient.data(), {1, CHUNK + 1});
    const auto x_view = x_tensor.descriptor(), dy_view = dy_tensor.descriptor(), dx_view = dx_tensor.descriptor(),
               gradient_view = gradient_tensor.descriptor();
    const kasmina_tensor* gradients[] = {&gradient_view};
    auto arguments = kasmina::sized<kasmina_backward>();
    arguments.x = &x_view;
    arguments.output_gradient = &dy_view;
    arguments.input_gradient = &dx_view;
    arguments.bank_gradients = gradients;
    arguments.bank_gradient_count = 1;
    layer.backward(arguments);
    std::vector<double> expected(CHUNK + 1, 0.0);
    for (int64_t row = 0; row < ROWS; ++row) {
        for (int64_t channel = 0; channel < HIDDEN; ++channel) {
            const double g = dy[row * HIDDEN + channel];
            require_close("dx", dx[row * HIDDEN + channel], g);
            if (channel < CHUNK) {
                expected[channel] += alpha * values[CHUNK] * g;
                expected[CHUNK] += alpha * values[channel] * g;
            }
        }
    }
    for (int64_t i = 0; i <= CHUNK; ++i) {
        require_close("parameter gradient", gradient[i], expected[i]);
    }

    advance(layer, KASMINA_ACTION_STABILISE, KASMINA_LIFECYCLE_STABILIZATION, forward);
    advance(layer, KASMINA_ACTION_EVALUATE, KASMINA_LIFECYCLE_EVALUATING, forward);
    require_error(KASMINA_STATUS_TRANSITION_REFUSED,
                  [&] { layer.submit({kasmina::command(SEED, KASMINA_ACTION_FINE_TUNE)}); });
    advance(layer, KASMINA_ACTION_FINE_TUNE, KASMINA_LIFECYCLE_FINE_TUNING, forward);
    advance(layer, KASMINA_ACTION_FOSSILISE, KASMINA_LIFECYCLE_FOSSILIZED, forward);
    forward();
    require_close("y of a fossil", y[1], x[1] + values[1] * values[CHUNK]);
    require_error(KASMINA_STATUS_TRANSITION_REFUSED, [&] { layer.roll_back(SEED, "a fossil stays"); });

    // In an emergency everything goes back to a snapshot.
    auto snapshot = layer.snapshot();
    const auto fossil = y;
    require(snapshot.info().taken == 1 && snapshot.info().bytes > 0, "a snapshot was taken");
    kasmina::LossGuard guard;
    require(guard.judge(1.0).empty(), "a first loss is accepted");
    const std::string reason = guard.judge(std::nan(""));
    require(reason == "the loss is NaN", "the guard says why: " + reason);
    values[1] = 77.0f;
    layer.end_epoch();
    require(layer.restore(snapshot, reason).find(reason) != std::string::npos, "the restore keeps the reason");
    forward();
    require(y == fossil, "a restored layer gives the same bits");
    layer.snapshot_into(snapshot);
    require(layer.report().find("FOSSILIZED") != std::string::npos, "the report names the state");

    // Through a file, and with the first layer gone: the same bits.
    const std::string path = "kasmina_test_grow.safetensors";
    layer.save(path);
    const auto before = y;
    layer = kasmina::Layer::load(path);
    std::remove(path.c_str());
    forward();
    require(y == before, "a loaded layer gives the same bits");
    require(values[0] == 0.5f, "exported memory outlives its layer");
}

void owners() {
    auto one = kasmina::Blueprint::from_library("mlp", CHUNK);
    const uint64_t id = one.handle().id;
    kasmina::Blueprint two(std::move(one));
    require(one.handle().id == 0 && two.handle().id == id, "moving leaves nothing behind");
    {
        const kasmina::Blueprint three(std::move(two));
    }
    uint64_t chunk = 0;
    require(kasmina_blueprint_chunk({id}, &chunk, nullptr) == KASMINA_STATUS_INVALID_HANDLE, "the owner destroys");
    require_error(KASMINA_STATUS_INVALID_HANDLE, [&] { two.chunk(); });
    require_error(KASMINA_STATUS_MALFORMED_BLUEPRINT, [] { kasmina::Blueprint::from_json("{"); });
    require_error(KASMINA_STATUS_MALFORMED_BLUEPRINT, [] { kasmina::Blueprint::from_json({}); });
    require_error(KASMINA_STATUS_INVALID_ARGUMENT, [] { kasmina::Layer(0, 1, KASMINA_DATA_TYPE_F32); });
    require_error(KASMINA_STATUS_FILE_CORRUPTED, [] { kasmina::Layer::from_bytes("junk"); });
}

} // namespace

int main() {
    owners();
    grow();
    require(kasmina::statistics().failed == 0, "nothing failed to compile");
    kasmina::shutdown();
    require_error(KASMINA_STATUS_INVALID_HANDLE, [] { kasmina::statistics(); });
    kasmina::shutdown();
    return 0;
}
