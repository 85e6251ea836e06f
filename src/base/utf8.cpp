#include "base/utf8.h"

namespace hearth {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

}  // namespace

// The byte ranges of Unicode 15, table 3-7: the second byte's range excludes
// overlong forms, surrogates and values above U+10FFFF.
Utf8Sequence utf8_sequence(std::string_view text) noexcept {
    auto const byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
    std::uint8_t const lead = byte(0);
    if (lead < 0x80) return {1, Utf8Sequence::valid};
    std::size_t const need = lead >= 0xC2 && lead <= 0xDF   ? 2
                             : (lead & 0xF0) == 0xE0        ? 3
                             : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                            : 0;
    if (need == 0) return {1, Utf8Sequence::invalid};
    std::uint8_t const low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    std::uint8_t const high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (std::size_t i = 1; i < need; ++i) {
        if (i == text.size()) return {i, Utf8Sequence::incomplete};
        bool const fits = i == 1 ? byte(i) >= low && byte(i) <= high : (byte(i) & 0xC0) == 0x80;
        if (!fits) return {i, Utf8Sequence::invalid};
    }
    return {need, Utf8Sequence::valid};
}

bool is_valid_utf8(std::string_view text) noexcept {
    while (!text.empty()) {
        Utf8Sequence const next = utf8_sequence(text);
        if (next.kind != Utf8Sequence::valid) return false;
        text.remove_prefix(next.length);
    }
    return true;
}

void Utf8Carry::push(std::string_view bytes, std::string& out) {
    std::string joined;
    if (size_ > 0) {
        joined.assign(tail_.data(), size_);
        joined.append(bytes);
        bytes = joined;
        size_ = 0;
    }
    while (!bytes.empty()) {
        Utf8Sequence const next = utf8_sequence(bytes);
        if (next.kind == Utf8Sequence::incomplete) {
            size_ = bytes.copy(tail_.data(), tail_.size());
            return;
        }
        if (next.kind == Utf8Sequence::valid) {
            out.append(bytes.substr(0, next.length));
        } else {
            out.append(kReplacement);
        }
        bytes.remove_prefix(next.length);
    }
}

void Utf8Carry::finish(std::string& out) {
    if (size_ > 0) out.append(kReplacement);
    size_ = 0;
}

}  // namespace hearth
