// Document, View: strict JSON (RFC 8259) from files that came from elsewhere.
//
// Stricter than the standard where a file could otherwise mean two things: a
// name that occurs twice in one object is refused, so are text that is not
// UTF-8, a lone surrogate, and a number that no double holds. The order of
// members is kept.
//
// A document is a flat array of nodes in the order of the text, each with the
// index behind its subtree: walking is a linear scan, and a million values cost
// one allocation. Strings are decoded in place; views into them live as long as
// the document.
//
// Threads: none; a document is immutable. Ownership: a View, and every text it
// gives, lives no longer than its Document and not past a move of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hearth::json {

// What a text may cost. All are inclusive.
struct Limits {
    std::size_t bytes = std::size_t{16} << 20;   // REQUIRES: below 4 GiB
    std::size_t values = std::size_t{1} << 20;   // values and names together, 24 bytes each
    std::size_t depth = 32;                      // arrays and objects around a value
};

enum class Kind : std::uint8_t { null, boolean, integer, number, string, array, object };

// "an integer", "a string" ...: for messages.
[[nodiscard]] std::string_view describe(Kind) noexcept;

struct Node {
    Kind kind = Kind::null;
    std::uint32_t size = 0;  // elements, members, or bytes of a string
    std::uint32_t next = 0;  // index of the first node behind this value
    union {
        bool boolean;
        std::int64_t integer;
        double number;
        std::uint64_t offset;  // of a string in the text
    };
    Node() : integer(0) {}
};

class Document;
struct Member;

class View {
public:
    [[nodiscard]] Kind kind() const;
    [[nodiscard]] bool is(Kind wanted) const { return kind() == wanted; }

    // Nothing if it is of another kind. integer() is a number written without
    // fraction and exponent that std::int64_t holds; number() any number.
    [[nodiscard]] std::optional<bool> boolean() const;
    [[nodiscard]] std::optional<std::int64_t> integer() const;
    [[nodiscard]] std::optional<double> number() const;
    [[nodiscard]] std::optional<std::string_view> text() const;

    // Elements or members; 0 for anything else.
    [[nodiscard]] std::size_t size() const;

    // The member of that name; nothing if it is absent, null, or this is no
    // object. Linear in the members.
    [[nodiscard]] std::optional<View> find(std::string_view name) const;
    // The same, but a null is given.
    [[nodiscard]] std::optional<View> find_any(std::string_view name) const;

    // Ranges over elements and members in the order of the text; empty if this
    // is something else.
    class Elements;
    class Members;
    [[nodiscard]] Elements elements() const;
    [[nodiscard]] Members members() const;

private:
    friend class Document;
    friend struct Member;
    View(Document const* document, std::uint32_t at) : document_(document), at_(at) {}
    [[nodiscard]] Node const& node() const;

    Document const* document_;
    std::uint32_t at_;
};

class Document {
public:
    // `name` is the file, for messages. `corrupt` with the byte for text that is
    // not strict JSON, `too_large` for what passes a limit.
    [[nodiscard]] static Result<Document> parse(std::string text, Limits const& limits, std::string_view name);

    [[nodiscard]] View root() const { return View(this, 0); }

    Document(Document&&) noexcept = default;
    Document& operator=(Document&&) noexcept = default;

private:
    friend class View;
    Document() = default;

    // Not std::string: moving a short one would leave the views behind.
    std::vector<char> text_;
    std::vector<Node> nodes_;
};

struct Member {
    std::string_view name;
    View value;
};

class View::Elements {
public:
    class Iterator {
    public:
        using value_type = View;                 // NOLINT(readability-identifier-naming): the standard's
        using difference_type = std::ptrdiff_t;  // NOLINT(readability-identifier-naming): the standard's
        View operator*() const { return View(document_, at_); }
        Iterator& operator++();
        void operator++(int) { ++*this; }
        bool operator==(Iterator const& other) const { return at_ == other.at_; }

    private:
        friend class Elements;
        Iterator(Document const* document, std::uint32_t at) : document_(document), at_(at) {}
        Document const* document_;
        std::uint32_t at_;
    };
    [[nodiscard]] Iterator begin() const { return {document_, begin_}; }
    [[nodiscard]] Iterator end() const { return {document_, end_}; }

private:
    friend class View;
    Elements(Document const* document, std::uint32_t begin, std::uint32_t end)
        : document_(document), begin_(begin), end_(end) {}
    Document const* document_;
    std::uint32_t begin_;
    std::uint32_t end_;
};

class View::Members {
public:
    class Iterator {
    public:
        using value_type = Member;                 // NOLINT(readability-identifier-naming): the standard's
        using difference_type = std::ptrdiff_t;  // NOLINT(readability-identifier-naming): the standard's
        Member operator*() const;
        Iterator& operator++();
        void operator++(int) { ++*this; }
        bool operator==(Iterator const& other) const { return at_ == other.at_; }

    private:
        friend class Members;
        Iterator(Document const* document, std::uint32_t at) : document_(document), at_(at) {}
        Document const* document_;
        std::uint32_t at_;  // of the name; the value is the next node
    };
    [[nodiscard]] Iterator begin() const { return {document_, begin_}; }
    [[nodiscard]] Iterator end() const { return {document_, end_}; }

private:
    friend class View;
    Members(Document const* document, std::uint32_t begin, std::uint32_t end)
        : document_(document), begin_(begin), end_(end) {}
    Document const* document_;
    std::uint32_t begin_;
    std::uint32_t end_;
};

}  // namespace hearth::json
