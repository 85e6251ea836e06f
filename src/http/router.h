// Router: finds the route of a path and method.
//
// Private to http. Of several patterns that match a path, the one whose first
// differing segment is more specific wins: literal before {name} before
// {name...}. Immutable once created.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "http/server.h"

namespace hearth::http {

inline constexpr std::size_t kMethodCount = 7;

[[nodiscard]] std::string_view to_string(Method method) noexcept;
[[nodiscard]] std::optional<Method> parse_method(std::string_view text) noexcept;  // case-sensitive, as HTTP is

struct Match {
    Route const* route = nullptr;  // null: no such path, or not with this method
    std::size_t index = 0;         // of the route in the table
    std::vector<std::pair<std::string, std::string>> parameters;
    std::string allow;  // methods of the path, for Allow; empty: no such path
};

class Router {
public:
    // Fails with `invalid_argument` for a bad pattern or one declared twice.
    [[nodiscard]] static Result<Router> create(std::vector<Route> routes);

    // HEAD finds a path's GET route unless it has its own. `method` none: one
    // that no route can have.
    [[nodiscard]] Match match(std::vector<std::string> const& segments, std::optional<Method> method) const;

    [[nodiscard]] std::vector<Route> const& routes() const { return routes_; }

private:
    enum class Kind : std::uint8_t { literal, name, rest };  // in the order of precedence
    struct Segment {
        Kind kind;
        std::string text;
    };
    struct Entry {
        std::vector<Segment> segments;
        std::array<std::optional<std::size_t>, kMethodCount> routes;  // by method
    };

    Router() = default;
    static Result<std::vector<Segment>> parse_pattern(std::string_view pattern);
    static bool before(Entry const& a, Entry const& b);
    static bool matches(Entry const& entry, std::vector<std::string> const& segments);
    static void bind(Entry const& entry, std::vector<std::string> const& segments, Match& match);
    static std::string allow_of(std::array<bool, kMethodCount> const& methods);

    std::vector<Route> routes_;
    std::vector<Entry> entries_;
};

}  // namespace hearth::http
