// JsonDocument, JsonView: a parsed request body, read-only.
//
// The only place of the API layer that knows the JSON library. parse() bounds
// depth and the number of values before the library sees a byte, so that a
// small hostile body can neither exhaust the stack nor blow up in memory.
//
// Threads: one. Ownership: a document owns its tree; a view lives no longer
// than its document.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::api {

inline constexpr std::size_t kJsonDepthMax = 64;
inline constexpr std::size_t kJsonValuesMax = 1U << 20;  // members and elements together

enum class JsonKind : std::uint8_t { null, boolean, integer, number, string, array, object };

// "an integer", "a string" ...: for messages.
[[nodiscard]] std::string_view describe(JsonKind kind);

class JsonView {
public:
    [[nodiscard]] JsonKind kind() const;
    [[nodiscard]] bool is_null() const { return kind() == JsonKind::null; }

    // REQUIRES: the kind named
    [[nodiscard]] bool as_boolean() const;
    [[nodiscard]] std::string const& as_string() const;
    [[nodiscard]] double as_number() const;  // integer or number

    // The value if it is a whole number that std::int64_t holds; 3.0 is whole.
    [[nodiscard]] std::optional<std::int64_t> as_integer() const;

    // Elements or members; 0 for anything else.
    [[nodiscard]] std::size_t size() const;
    // REQUIRES: array, i < size()
    [[nodiscard]] JsonView at(std::size_t i) const;
    // A member; nothing if absent or null, which mean the same everywhere here.
    // REQUIRES: object
    [[nodiscard]] std::optional<JsonView> find(std::string_view name) const;
    // Every member in the order of names. Null members included.
    // REQUIRES: object
    void for_each_member(std::function<void(std::string const& name, JsonView value)> const& visit) const;

private:
    friend class JsonDocument;
    explicit JsonView(void const* node) : node_(node) {}
    void const* node_;
};

class JsonDocument {
public:
    // Fails with `invalid_argument` for text that is no JSON (with line and
    // column), not UTF-8, nested deeper than kJsonDepthMax, or of more than
    // kJsonValuesMax values. The last of duplicate names wins.
    [[nodiscard]] static Result<JsonDocument> parse(std::string_view text);

    ~JsonDocument();
    JsonDocument(JsonDocument&&) noexcept;
    JsonDocument& operator=(JsonDocument&&) noexcept;

    [[nodiscard]] JsonView root() const;

private:
    struct Tree;
    explicit JsonDocument(std::unique_ptr<Tree> tree);
    std::unique_ptr<Tree> tree_;
};

}  // namespace hearth::api
