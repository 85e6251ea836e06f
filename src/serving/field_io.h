// FieldWriter and FieldReader: the two directions of a frame's fields, with the
// same interface, so that a struct lists its fields once for both (protocol.cpp).
//
// Numbers are little-endian; a flag and an enumeration are one byte; text, bytes
// and lists stand behind a u32 count; an optional behind a flag; a variant
// behind a one-byte tag. check() remembers the first field that breaks a rule.
//
// Threads: one. Private to serving.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/utf8.h"

namespace hearth::serving {

inline constexpr std::size_t kTextMax = std::numeric_limits<std::uint32_t>::max();  // what the frame's length bounds

class FieldWriter {
public:
    static constexpr bool kReads = false;
    explicit FieldWriter(ByteWriter& out) : out_(out) {}

    template <typename T>
    void number(T const& value) {
        out_.write(value);
    }
    void flag(bool const& value) { out_.write<std::uint8_t>(value ? 1 : 0); }
    void bytes(std::string const& value) { out_.write_string(value); }
    void text(std::string const& value, std::size_t bytes_max = kTextMax, char const* field = nullptr) {
        if (is_valid_utf8(value)) [[likely]] {
            check(value.size() <= bytes_max, field);
            return out_.write_string(value);
        }
        std::string fixed;
        Utf8Carry carry;
        carry.push(value, fixed);
        carry.finish(fixed);
        check(fixed.size() <= bytes_max, field);
        out_.write_string(fixed);
    }
    void logprob(float const& value) {
        out_.write(std::isnan(value) ? -std::numeric_limits<float>::infinity() : value);
    }
    template <typename E>
    void enumeration(E const& value, E last, char const* field) {
        check(value <= last, field);
        out_.write(static_cast<std::uint8_t>(value));
    }
    template <typename T, typename F>
    void optional(std::optional<T> const& value, F const& each) {
        flag(value.has_value());
        if (value) each(*this, *value);
    }
    template <typename T, typename F>
    void list(std::vector<T> const& values, std::size_t count_max, std::size_t, char const* field, F const& each) {
        check(values.size() <= count_max, field);
        out_.write_count(values.size());
        for (auto const& value : values) each(*this, value);
    }
    template <typename V, typename F>
    void variant(V const& value, char const*, F const& each) {
        out_.write(static_cast<std::uint8_t>(value.index()));
        std::visit([&](auto const& alternative) { each(*this, alternative); }, value);
    }
    void check(bool holds, char const* field) {
        if (!holds && problem_ == nullptr) [[unlikely]]
            problem_ = field;
    }
    [[nodiscard]] char const* problem() const { return problem_; }

private:
    ByteWriter& out_;
    char const* problem_ = nullptr;  // the first field that decode() would refuse
};

class FieldReader {
public:
    static constexpr bool kReads = true;
    explicit FieldReader(std::string_view body) : in_(body) {}

    template <typename T>
    void number(T& value) {
        value = in_.read<T>();
    }
    void flag(bool& value) {
        auto const raw = in_.read<std::uint8_t>();
        check(raw <= 1, "flag");
        value = raw == 1;
    }
    void bytes(std::string& value) { value = in_.read_string(); }
    void text(std::string& value, std::size_t bytes_max = kTextMax, char const* field = nullptr) {
        auto const view = in_.read_string();
        check(view.size() <= bytes_max, field);
        check(is_valid_utf8(view), "text that is not UTF-8");
        value = view;
    }
    void logprob(float& value) {
        value = in_.read<float>();
        check(!std::isnan(value), "log-probability");
    }
    template <typename E>
    void enumeration(E& value, E last, char const* field) {
        auto const raw = in_.read<std::uint8_t>();
        check(raw <= static_cast<std::uint8_t>(last), field);
        value = in_.ok() ? static_cast<E>(raw) : E{};
    }
    template <typename T, typename F>
    void optional(std::optional<T>& value, F const& each) {
        bool present = false;
        flag(present);
        if (!present || !in_.ok()) return value.reset();
        each(*this, value.emplace());
    }
    template <typename T, typename F>
    void list(std::vector<T>& values, std::size_t count_max, std::size_t element_bytes, char const* field,
              F const& each) {
        auto const count = in_.read_count(element_bytes);
        check(count <= count_max, field);
        values.clear();
        if (!in_.ok()) return;
        values.reserve(count);  // bounded: read_count() holds it to the bytes that are left
        for (std::uint32_t i = 0; i < count && in_.ok(); ++i) each(*this, values.emplace_back());
    }
    template <typename V, typename F>
    void variant(V& value, char const* field, F const& each) {
        auto const tag = in_.read<std::uint8_t>();
        check(tag < std::variant_size_v<V>, field);
        if (!in_.ok()) return;
        emplace(value, tag, std::make_index_sequence<std::variant_size_v<V>>{});
        std::visit([&](auto& alternative) { each(*this, alternative); }, value);
    }
    void check(bool holds, char const* field) {
        if (holds) [[likely]]
            return;
        if (problem_ == nullptr && in_.ok()) problem_ = field;
        in_.fail();
    }
    [[nodiscard]] bool ok() const { return in_.ok(); }
    [[nodiscard]] std::size_t left() const { return in_.left(); }
    [[nodiscard]] char const* problem() const { return problem_; }

private:
    template <typename V, std::size_t... I>
    static void emplace(V& value, std::uint8_t tag, std::index_sequence<I...>) {
        ((tag == I ? static_cast<void>(value.template emplace<I>()) : void()), ...);
    }

    ByteReader in_;
    char const* problem_ = nullptr;
};

// Which function lists a struct's fields, whether they are written or read.
template <typename T, typename U>
concept Is = std::is_same_v<std::remove_const_t<T>, U>;

}  // namespace hearth::serving
