#include "convert/gguf_output.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "convert/packed.h"
#include "models/gguf.h"

namespace hearth::convert {
namespace {

constexpr std::uint64_t kAlignment = models::kGgufAlignmentMin;
constexpr std::uint32_t kVersion = 3;
constexpr std::uint32_t kTypeQ4_1 = 3;  // GGML_TYPE_Q4_1

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::string encode_header(Metadata const& metadata, std::span<OutputTensor const> tensors) {
    ByteWriter out;
    out.write_bytes("GGUF");
    out.write(kVersion);
    out.write(std::uint64_t{tensors.size()});
    out.write(std::uint64_t{metadata.size()});
    out.write_bytes(metadata.encode());
    std::uint64_t offset = 0;
    for (auto const& tensor : tensors) {
        out.write(std::uint64_t{tensor.name.size()});
        out.write_bytes(tensor.name);
        out.write(static_cast<std::uint32_t>(tensor.shape.size()));
        for (auto dimension = tensor.shape.rbegin(); dimension != tensor.shape.rend(); ++dimension)
            out.write(*dimension);
        out.write(tensor.storage == Storage::q4_1 ? kTypeQ4_1 : ggml_type_of(tensor.type));
        out.write(offset);
        offset += padded(tensor.bytes());
    }
    auto bytes = std::move(out).take();
    bytes.resize(padded(bytes.size()));
    return bytes;
}

}  // namespace

std::uint64_t OutputTensor::elements() const {
    std::uint64_t elements = 1;
    for (auto const dimension : shape) elements *= dimension;
    return elements;
}

std::uint64_t OutputTensor::bytes() const {
    if (storage == Storage::q4_1) return elements() / kBlockNumbers * kBlockBytes;
    return elements() * element_bytes(type);
}

std::uint64_t GgufOutput::file_bytes(Metadata const& metadata, std::span<OutputTensor const> tensors) {
    std::uint64_t total = encode_header(metadata, tensors).size();
    for (auto const& tensor : tensors) total += padded(tensor.bytes());
    return total;
}

Result<GgufOutput> GgufOutput::create(int fd, Metadata const& metadata, std::span<OutputTensor const> tensors) {
    GgufOutput output(fd);
    for (auto const& tensor : tensors) output.tensors_.push_back(tensor.bytes());
    auto const header = encode_header(metadata, tensors);
    HEARTH_CHECK(output.put(std::as_bytes(std::span(header))));
    return output;
}

Status GgufOutput::write(std::span<std::byte const> bytes) {
    HEARTH_ASSERT(current_ < tensors_.size(), "there is a tensor to write");
    auto const whole = tensors_[current_];
    HEARTH_ASSERT(bytes.size() <= whole - written_, "no more than the tensor's bytes");
    HEARTH_CHECK(put(bytes));
    written_ += bytes.size();
    if (written_ < whole) return ok();
    constexpr std::array<std::byte, kAlignment> kZeros{};
    HEARTH_CHECK(put(std::span(kZeros).first(padded(whole) - whole)));
    ++current_;
    written_ = 0;
    return ok();
}

Status GgufOutput::put(std::span<std::byte const> bytes) const {
    while (!bytes.empty()) {
        auto const done = ::write(fd_, bytes.data(), bytes.size());
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return Error(Code::io, fmt::format("the output cannot be written: {}", std::strerror(errno)));
        bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
    return ok();
}

}  // namespace hearth::convert
