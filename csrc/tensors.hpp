// Between torch's tensors and the C ABI: descriptors, errors, and the few tensor operations the operators need.
// Knows nothing of layers.

#pragma once

#include <kasmina/kasmina.h>

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace kasmina::torch_ops {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// Makes a call of the C ABI, given where its error goes, and throws what it reports; torch makes a RuntimeError of it.
template <typename Call>
void checked(Call&& call) {
    kasmina_error* error = nullptr;
    if (call(&error) == KASMINA_STATUS_OK) {
        return;
    }
    std::string message = "kasmina: ";
    message += kasmina_error_message(error);
    for (size_t i = 0; i < kasmina_error_attachment_count(error); ++i) {
        message += std::string("\n--- ") + kasmina_error_attachment_name(error, i) + "\n" +
                   kasmina_error_attachment_text(error, i);
    }
    kasmina_error_destroy(error);
    throw std::runtime_error(message);
}

struct TypePair {
    ScalarType torch;
    kasmina_data_type kasmina;
};

inline constexpr std::array<TypePair, 12> TYPES{{
    {ScalarType::Float, KASMINA_DATA_TYPE_F32},
    {ScalarType::Half, KASMINA_DATA_TYPE_F16},
    {ScalarType::BFloat16, KASMINA_DATA_TYPE_BF16},
    {ScalarType::Double, KASMINA_DATA_TYPE_F64},
    {ScalarType::Int, KASMINA_DATA_TYPE_I32},
    {ScalarType::Long, KASMINA_DATA_TYPE_I64},
    {ScalarType::Bool, KASMINA_DATA_TYPE_BOOL},
    {ScalarType::Char, KASMINA_DATA_TYPE_I8},
    {ScalarType::Byte, KASMINA_DATA_TYPE_U8},
    {ScalarType::Short, KASMINA_DATA_TYPE_I16},
    {ScalarType::UInt16, KASMINA_DATA_TYPE_U16},
    {ScalarType::UInt32, KASMINA_DATA_TYPE_U32},
}};

inline kasmina_data_type to_kasmina(ScalarType type) {
    for (const auto& pair : TYPES) {
        if (pair.torch == type) {
            return pair.kasmina;
        }
    }
    throw std::runtime_error(
        "kasmina: a tensor has an element type that no layer takes; convert it to float32, float64, "
        "float16 or bfloat16");
}

inline ScalarType to_torch(int32_t type) {
    for (const auto& pair : TYPES) {
        if (pair.kasmina == type) {
            return pair.torch;
        }
    }
    throw std::runtime_error("kasmina: the library exported the unknown element type " + std::to_string(type));
}

/// A tensor as the C ABI sees it. Borrows the tensor, so it must not outlive it.
class Descriptor {
  public:
    explicit Descriptor(const Tensor& tensor) {
        descriptor_.struct_size = sizeof(descriptor_);
        descriptor_.data = tensor.data_ptr();
        descriptor_.data_type = to_kasmina(tensor.scalar_type());
        // Each of these is a call into torch.
        const bool cuda = tensor.is_cuda();
        const auto sizes = tensor.sizes();
        descriptor_.device_type = cuda ? KASMINA_DEVICE_TYPE_CUDA : KASMINA_DEVICE_TYPE_CPU;
        descriptor_.device_index = cuda ? tensor.get_device_index() : 0;
        descriptor_.rank = static_cast<int32_t>(sizes.size());
        descriptor_.shape = sizes.data();
        descriptor_.strides = tensor.strides().data();
    }

    const kasmina_tensor* get() const { return &descriptor_; }

  private:
    kasmina_tensor descriptor_{};
};

/// A tensor that may be missing; NULL if it is.
class OptionalDescriptor {
  public:
    explicit OptionalDescriptor(const std::optional<Tensor>& tensor) {
        if (tensor) {
            descriptor_.emplace(*tensor);
        }
    }

    const kasmina_tensor* get() const { return descriptor_ ? descriptor_->get() : nullptr; }

  private:
    std::optional<Descriptor> descriptor_;
};

/// A list of tensors as the C ABI sees it.
class Descriptors {
  public:
    explicit Descriptors(const std::vector<Tensor>& tensors) {
        descriptors_.reserve(tensors.size());
        // One more, so that an empty list is not NULL, which the C ABI reads as "the layer's own".
        pointers_.reserve(tensors.size() + 1);
        for (const auto& tensor : tensors) {
            pointers_.push_back(descriptors_.emplace_back(tensor).get());
        }
    }
    Descriptors(const Descriptors&) = delete;
    Descriptors& operator=(const Descriptors&) = delete;

    const kasmina_tensor* const* data() const { return pointers_.data(); }
    size_t size() const { return pointers_.size(); }

  private:
    std::vector<Descriptor> descriptors_;
    std::vector<const kasmina_tensor*> pointers_;
};

/// An uninitialised tensor of another one's type and device. Unlike torch::stable's functions it looks no operator up
/// by its name, which costs more than the memory.
inline Tensor empty(torch::headeronly::IntHeaderOnlyArrayRef sizes, torch::headeronly::IntHeaderOnlyArrayRef strides,
                    const Tensor& like) {
    int32_t data_type = 0, device_type = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &data_type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
    AtenTensorHandle made = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                                                    data_type, device_type, like.get_device_index(), &made));
    return Tensor(made);
}

/// Whether the elements lie in one piece, each at a place of its own, whatever the order of the dimensions.
inline bool is_dense(const Tensor& tensor) {
    const auto sizes = tensor.sizes();
    const auto strides = tensor.strides();
    int64_t reach = 1; // of the dimensions that were found
    for (bool more = true; more && reach < tensor.numel();) {
        more = false;
        for (size_t axis = 0; axis < sizes.size() && !more; ++axis) {
            more = sizes[axis] > 1 && strides[axis] == reach;
            reach *= more ? sizes[axis] : 1;
        }
    }
    return reach == tensor.numel();
}

/// A new tensor like another one, as torch.empty_like.
inline Tensor empty_like(const Tensor& tensor) {
    const bool keeps_strides = tensor.is_contiguous() || is_dense(tensor);
    return keeps_strides ? empty(tensor.sizes(), tensor.strides(), tensor) : torch::stable::empty_like(tensor);
}

/// An uninitialised contiguous tensor of the same shape, type and device.
inline Tensor contiguous_like(const Tensor& tensor) {
    using torch::stable::detail::from;
    std::array<StableIValue, 6> stack{from(tensor),       from(std::nullopt),
                                      from(std::nullopt), from(std::nullopt),
                                      from(std::nullopt), from(std::optional<MemoryFormat>(MemoryFormat::Contiguous))};
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::empty_like", "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
}

/// Whether the library walks a tensor `[..., hidden]` where it lies, and fast: two strides are enough for its rows (all
/// dimensions before the last), and the channels of a row or the rows of a channel are adjacent.
inline bool walkable(const Tensor& tensor) {
    const auto sizes = tensor.sizes();
    const auto strides = tensor.strides();
    const auto last = static_cast<int64_t>(sizes.size()) - 1;
    if (last < 0 || tensor.numel() == 0) {
        return true;
    }
    int levels = 0;
    bool adjacent = strides[last] == 1 || sizes[last] == 1;
    int64_t next = 0; // the stride with which the dimension further out continues the level
    for (int64_t axis = last - 1; axis >= 0; --axis) {
        if (sizes[axis] == 1) {
            continue;
        }
        if (levels == 0) {
            adjacent = adjacent || strides[axis] == 1;
        }
        levels += levels == 0 || strides[axis] != next;
        next = strides[axis] * sizes[axis];
    }
    return adjacent && levels <= 2;
}

/// The tensor itself if the library walks it where it lies; otherwise a contiguous copy.
inline Tensor readable(const Tensor& tensor) {
    return walkable(tensor) ? tensor : torch::stable::contiguous(tensor);
}

/// Throws if one place of a tensor that shall be written is several of its elements, as after `expand`.
inline void refuse_repeated(const Tensor& tensor) {
    const auto sizes = tensor.sizes();
    const auto strides = tensor.strides();
    for (size_t axis = 0; axis < sizes.size(); ++axis) {
        if (sizes[axis] > 1 && strides[axis] == 0 && tensor.numel() > 0) {
            throw std::runtime_error("kasmina: x cannot be written in place, because it repeats its elements along "
                                     "dimension " +
                                     std::to_string(axis) + ": give forward_ a clone of it, or call forward");
        }
    }
}

/// A new tensor like another one (in its strides if they are dense, as torch.empty_like), and where the library writes
/// what it shall hold: itself, if the library walks it.
class Result {
  public:
    explicit Result(const Tensor& like)
        : tensor_(torch_ops::empty_like(like)), written_(walkable(tensor_) ? tensor_ : contiguous_like(like)) {}

    const Tensor& written() const { return written_; }

    /// The tensor, once its elements are written.
    Tensor take() {
        if (written_.data_ptr() != tensor_.data_ptr()) {
            torch::stable::copy_(tensor_, written_);
        }
        return tensor_;
    }

  private:
    Tensor tensor_;
    Tensor written_;
};

} // namespace kasmina::torch_ops
