#include "convert/packed.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"

namespace hearth::convert {
namespace {

using Half = _Float16;
using models::SafetensorsTensor;
using models::SafetensorsType;

constexpr std::uint32_t kBits = 4;
constexpr std::uint64_t kInWord = 8;
constexpr std::uint32_t kNumberMax = 15;
constexpr std::int64_t kGroupMax = 1 << 20;
// Where in a word of AWQ's the number of each column is.
constexpr std::array<std::uint64_t, kInWord> kAwqPlace{0, 4, 1, 5, 2, 6, 3, 7};

template <typename T>
T load(std::span<std::byte const> bytes, std::uint64_t index) {
    T value;
    std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
    return value;
}

std::uint32_t number_in(std::uint32_t word, std::uint64_t place) { return word >> (kBits * place) & kNumberMax; }

class Numbers {
public:
    Numbers(PackedFormat const& format, PackedShape const& shape, PackedBytes const& bytes)
        : format_(format), shape_(shape), bytes_(bytes) {}

    [[nodiscard]] std::uint32_t weight(std::uint64_t row, std::uint64_t column) const {
        if (format_.packing == Packing::gptq) {
            return number_in(load<std::uint32_t>(bytes_.qweight, column / kInWord * shape_.rows + row),
                             column % kInWord);
        }
        return number_in(load<std::uint32_t>(bytes_.qweight, column * (shape_.rows / kInWord) + row / kInWord),
                         kAwqPlace[row % kInWord]);
    }
    [[nodiscard]] std::uint32_t zero(std::uint64_t row, std::uint64_t group) const {
        auto const word = load<std::uint32_t>(bytes_.qzeros, group * (shape_.rows / kInWord) + row / kInWord);
        auto const place = format_.packing == Packing::gptq ? row % kInWord : kAwqPlace[row % kInWord];
        return number_in(word, place) + format_.zero_offset;
    }
    [[nodiscard]] Half scale(std::uint64_t row, std::uint64_t group) const {
        return load<Half>(bytes_.scales, group * shape_.rows + row);
    }

private:
    PackedFormat const& format_;
    PackedShape const& shape_;
    PackedBytes const& bytes_;
};

Error refuse(std::string_view name, std::string_view what, Code code = Code::corrupt) {
    return {code, fmt::format("matrix \"{}\": {}", name, what), std::string(name)};
}

bool is(SafetensorsTensor const& tensor, SafetensorsType type, std::uint64_t rows, std::uint64_t columns) {
    return tensor.type == type && tensor.shape == std::vector<std::uint64_t>{rows, columns};
}

}  // namespace

Result<std::optional<PackedFormat>> packed_format(HfConfig const& config) {
    constexpr std::string_view kKey = "quantization_config";
    auto const quantization = config.find({kKey});
    if (!quantization) return std::optional<PackedFormat>();
    auto const refused = [&](std::string_view what) { return config.wrong(kKey, what, Code::unsupported); };
    auto const method = text_of(*quantization, "quant_method");
    if (method != "gptq" && method != "awq")
        return refused(fmt::format("quant_method \"{}\" is not converted; gptq and awq are", method));
    auto const integer = [&](std::string_view name) {
        auto const value = quantization->find(name);
        return value ? value->integer() : std::nullopt;
    };
    auto const bits = integer("bits").value_or(0);
    if (bits != kBits) return refused(fmt::format("bits of {} are not converted; {} are", bits, kBits));
    auto const group = integer("group_size").value_or(0);
    bool const fits = group == -1 || (group > 0 && group <= kGroupMax && group % std::int64_t{kBlockNumbers} == 0);
    if (!fits) return refused(fmt::format("a group_size of {} is no multiple of {}", group, kBlockNumbers));
    PackedFormat format;
    format.group = group == -1 ? 0 : static_cast<std::uint32_t>(group);
    if (method == "awq") {
        format.packing = Packing::awq;
        auto const version = text_of(*quantization, "version");
        auto const zeros = quantization->find("zero_point");
        if ((version != "gemm" && version != "GEMM" && !version.empty()) || (zeros && zeros->boolean() == false))
            return refused(
                fmt::format("only awq's version \"gemm\" with zero points is converted, not \"{}\"", version));
        return std::optional(format);
    }
    auto const layout = text_of(*quantization, "checkpoint_format");
    if (!layout.empty() && layout != "gptq" && layout != "gptq_v2")
        return refused(fmt::format("a checkpoint_format of \"{}\" is not converted; gptq and gptq_v2 are", layout));
    format.zero_offset = layout == "gptq_v2" ? 0 : 1;
    return std::optional(format);
}

Result<PackedShape> packed_shape(PackedFormat const& format, PackedTensors const& tensors, std::string_view name) {
    if (tensors.qweight == nullptr || tensors.qzeros == nullptr || tensors.scales == nullptr)
        return refuse(name, "not all of qweight, qzeros and scales are there");
    auto const& qweight = *tensors.qweight;
    if (qweight.type != SafetensorsType::i32 || qweight.shape.size() != 2)
        return refuse(name, "qweight is no matrix of I32");
    bool const gptq = format.packing == Packing::gptq;
    PackedShape shape;
    shape.rows = qweight.shape[1] * (gptq ? 1 : kInWord);
    shape.columns = qweight.shape[0] * (gptq ? kInWord : 1);
    shape.group = format.group == 0 ? shape.columns : format.group;
    if (shape.rows == 0 || shape.rows % kInWord != 0 || shape.columns == 0 || shape.columns % kBlockNumbers != 0 ||
        shape.columns % shape.group != 0) {
        return refuse(name,
                      fmt::format("{} rows of {} numbers are not rows in words of {} and groups of {}", shape.rows,
                                  shape.columns, kInWord, shape.group),
                      Code::unsupported);
    }
    auto const groups = shape.columns / shape.group;
    if (!is(*tensors.qzeros, SafetensorsType::i32, groups, shape.rows / kInWord))
        return refuse(name, fmt::format("qzeros is no I32 of {} by {}", groups, shape.rows / kInWord));
    if (tensors.scales->type != SafetensorsType::f16)
        return refuse(name, fmt::format("scales are {}, F16 are converted", to_string(tensors.scales->type)),
                      Code::unsupported);
    if (!is(*tensors.scales, SafetensorsType::f16, groups, shape.rows))
        return refuse(name, fmt::format("scales are not {} by {}", groups, shape.rows));
    if (tensors.g_idx != nullptr && (tensors.g_idx->type != SafetensorsType::i32 ||
                                     tensors.g_idx->shape != std::vector<std::uint64_t>{shape.columns}))
        return refuse(name, fmt::format("g_idx is no I32 of {}", shape.columns));
    auto const bytes = qweight.bytes + tensors.qzeros->bytes + tensors.scales->bytes;
    if (bytes > kPackedBytesMax) {
        return refuse(name, fmt::format("takes {} bytes, at most {} are converted", bytes, kPackedBytesMax),
                      Code::too_large);
    }
    return shape;
}

Status row_to_q4_1(PackedFormat const& format, PackedShape const& shape, PackedBytes const& bytes, std::uint64_t row,
                   std::span<std::byte> out) {
    HEARTH_ASSERT(row < shape.rows && out.size() == shape.columns / kBlockNumbers * kBlockBytes, "room for the row");
    Numbers const numbers(format, shape, bytes);
    constexpr std::uint64_t kHalf = kBlockNumbers / 2;
    for (std::uint64_t block = 0; block < shape.columns / kBlockNumbers; ++block) {
        auto const first = block * kBlockNumbers;
        auto const zero = numbers.zero(row, first / shape.group);
        if (zero > kNumberMax)
            return Error(Code::unsupported, "a zero point of 16, which programs read as 16 or as 0, is not converted");
        Half const d = numbers.scale(row, first / shape.group);
        auto const m = static_cast<Half>(-static_cast<float>(d) * static_cast<float>(zero));
        auto* const to = out.data() + block * kBlockBytes;
        std::memcpy(to, &d, sizeof d);
        std::memcpy(to + sizeof d, &m, sizeof m);
        for (std::uint64_t i = 0; i < kHalf; ++i) {
            auto const low = numbers.weight(row, first + i);
            auto const high = numbers.weight(row, first + kHalf + i);
            to[2 * sizeof d + i] = static_cast<std::byte>(low | high << kBits);
        }
    }
    return ok();
}

}  // namespace hearth::convert
