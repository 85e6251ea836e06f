#include "convert/metadata.h"

#include <algorithm>

#include "base/bytes.h"
#include "models/gguf.h"

namespace hearth::convert {
namespace {

using models::GgufType;

void put_text(ByteWriter& out, std::string_view text) {
    out.write(std::uint64_t{text.size()});
    out.write_bytes(text);
}

ByteWriter value_of(GgufType type) {
    ByteWriter out;
    out.write(static_cast<std::uint32_t>(type));
    return out;
}

template <typename T>
std::string scalar(GgufType type, T value) {
    auto out = value_of(type);
    out.write(value);
    return std::move(out).take();
}

ByteWriter array_of(GgufType element, std::size_t count) {
    auto out = value_of(GgufType::array);
    out.write(static_cast<std::uint32_t>(element));
    out.write(std::uint64_t{count});
    return out;
}

}  // namespace

void Metadata::set(std::string_view key, std::string value) {
    auto const found = std::find_if(pairs_.begin(), pairs_.end(), [&](auto const& pair) { return pair.first == key; });
    if (found != pairs_.end()) {
        found->second = std::move(value);
    } else {
        pairs_.emplace_back(key, std::move(value));
    }
}

bool Metadata::has(std::string_view key) const {
    return std::any_of(pairs_.begin(), pairs_.end(), [&](auto const& pair) { return pair.first == key; });
}

void Metadata::text(std::string_view key, std::string_view value) {
    if (value.empty()) return;
    auto out = value_of(GgufType::string);
    put_text(out, value);
    set(key, std::move(out).take());
}

void Metadata::texts(std::string_view key, std::span<std::string const> values) {
    if (values.empty()) return;
    auto out = array_of(GgufType::string, values.size());
    for (auto const& value : values) put_text(out, value);
    set(key, std::move(out).take());
}

void Metadata::u32(std::string_view key, std::uint32_t value) { set(key, scalar(GgufType::u32, value)); }

void Metadata::i32(std::string_view key, std::int32_t value) { set(key, scalar(GgufType::i32, value)); }

void Metadata::f32(std::string_view key, double value) { set(key, scalar(GgufType::f32, static_cast<float>(value))); }

void Metadata::boolean(std::string_view key, bool value) {
    set(key, scalar(GgufType::boolean, static_cast<std::uint8_t>(value)));
}

void Metadata::i32s(std::string_view key, std::span<std::int32_t const> values) {
    if (values.empty()) return;
    auto out = array_of(GgufType::i32, values.size());
    for (auto const value : values) out.write(value);
    set(key, std::move(out).take());
}

void Metadata::f32s(std::string_view key, std::span<float const> values) {
    if (values.empty()) return;
    auto out = array_of(GgufType::f32, values.size());
    for (auto const value : values) out.write(value);
    set(key, std::move(out).take());
}

std::string Metadata::encode() const {
    ByteWriter out;
    for (auto const& [key, value] : pairs_) {
        put_text(out, key);
        out.write_bytes(value);
    }
    return std::move(out).take();
}

}  // namespace hearth::convert
