#include "http/router.h"

#include <algorithm>

namespace hearth::http {
namespace {

constexpr std::array<std::string_view, kMethodCount> kMethodNames = {"GET",    "HEAD",    "POST", "PUT",
                                                                     "DELETE", "OPTIONS", "PATCH"};

std::size_t index_of(Method method) { return static_cast<std::size_t>(method); }

Error bad_pattern(std::string_view pattern, std::string_view why) {
    return {Code::invalid_argument, "route pattern '" + std::string(pattern) + "': " + std::string(why)};
}

}  // namespace

std::string_view to_string(Method method) noexcept { return kMethodNames[index_of(method)]; }

std::optional<Method> parse_method(std::string_view text) noexcept {
    auto const found = std::ranges::find(kMethodNames, text);
    if (found == kMethodNames.end()) return std::nullopt;
    return static_cast<Method>(found - kMethodNames.begin());
}

Result<Router> Router::create(std::vector<Route> routes) {
    Router router;
    router.routes_ = std::move(routes);
    for (std::size_t i = 0; i < router.routes_.size(); ++i) {
        Route const& route = router.routes_[i];
        HEARTH_TRY(auto segments, parse_pattern(route.pattern));
        // The same paths, whatever the parameters are called.
        auto entry = std::ranges::find_if(router.entries_, [&](Entry const& e) {
            return std::ranges::equal(e.segments, segments, [](Segment const& a, Segment const& b) {
                return a.kind == b.kind && (a.kind != Kind::literal || a.text == b.text);
            });
        });
        if (entry == router.entries_.end()) {
            router.entries_.push_back({.segments = segments, .routes = {}});
            entry = router.entries_.end() - 1;
        }
        bool const same_names = std::ranges::equal(entry->segments, segments, {}, &Segment::text, &Segment::text);
        if (!same_names) return bad_pattern(route.pattern, "another route names its parameters differently");
        auto& slot = entry->routes[index_of(route.method)];
        if (slot) return bad_pattern(route.pattern, std::string(to_string(route.method)) + " is declared twice");
        slot = i;
    }
    std::ranges::sort(router.entries_, before);
    return router;
}

Result<std::vector<Router::Segment>> Router::parse_pattern(std::string_view pattern) {
    if (!pattern.starts_with('/')) return bad_pattern(pattern, "must start with '/'");
    std::vector<Segment> segments;
    for (std::string_view rest = pattern.substr(1); !rest.empty();) {
        std::string_view text = rest.substr(0, rest.find('/'));
        rest.remove_prefix(std::min(text.size() + 1, rest.size()));
        if (text.empty()) return bad_pattern(pattern, "has an empty segment");
        if (!text.starts_with('{')) {
            if (text.find_first_of("{}%") != text.npos)
                return bad_pattern(pattern, "a segment is a literal or one {name}");
            segments.push_back({.kind = Kind::literal, .text = std::string(text)});
            continue;
        }
        if (!text.ends_with('}')) return bad_pattern(pattern, "'{' without '}' at the segment's end");
        text = text.substr(1, text.size() - 2);
        Kind const kind = text.ends_with("...") ? Kind::rest : Kind::name;
        if (kind == Kind::rest) text.remove_suffix(3);
        if (text.empty()) return bad_pattern(pattern, "a parameter without a name");
        if (kind == Kind::rest && !rest.empty()) return bad_pattern(pattern, "{name...} must come last");
        segments.push_back({.kind = kind, .text = std::string(text)});
    }
    return segments;
}

bool Router::before(Entry const& a, Entry const& b) {
    return std::ranges::lexicographical_compare(a.segments, b.segments,
                                                [](Segment const& x, Segment const& y) { return x.kind < y.kind; });
}

bool Router::matches(Entry const& entry, std::vector<std::string> const& segments) {
    bool const open = !entry.segments.empty() && entry.segments.back().kind == Kind::rest;
    if (open ? segments.size() < entry.segments.size() : segments.size() != entry.segments.size()) return false;
    for (std::size_t i = 0; i < entry.segments.size(); ++i) {
        if (entry.segments[i].kind == Kind::literal && entry.segments[i].text != segments[i]) return false;
    }
    return true;
}

void Router::bind(Entry const& entry, std::vector<std::string> const& segments, Match& match) {
    for (std::size_t i = 0; i < entry.segments.size(); ++i) {
        Segment const& segment = entry.segments[i];
        if (segment.kind == Kind::literal) continue;
        std::string value = segments[i];
        for (std::size_t j = i + 1; segment.kind == Kind::rest && j < segments.size(); ++j)
            value.append("/").append(segments[j]);
        match.parameters.emplace_back(segment.text, std::move(value));
    }
}

std::string Router::allow_of(std::array<bool, kMethodCount> const& methods) {
    std::string allow;
    for (std::size_t i = 0; i < kMethodCount; ++i) {
        bool const implied = i == index_of(Method::head) && methods[index_of(Method::get)];
        if (!methods[i] && !implied) continue;
        allow.append(allow.empty() ? "" : ", ").append(kMethodNames[i]);
    }
    return allow;
}

Match Router::match(std::vector<std::string> const& segments, std::optional<Method> method) const {
    Match match;
    std::array<bool, kMethodCount> methods{};
    for (Entry const& entry : entries_) {
        if (!matches(entry, segments)) continue;
        for (std::size_t i = 0; i < kMethodCount; ++i) methods[i] = methods[i] || entry.routes[i].has_value();
        if (!method || match.route != nullptr) continue;
        auto slot = entry.routes[index_of(*method)];
        if (!slot && method == Method::head) slot = entry.routes[index_of(Method::get)];
        if (!slot) continue;
        match.route = &routes_[*slot];
        match.index = *slot;
        bind(entry, segments, match);
    }
    match.allow = allow_of(methods);
    return match;
}

}  // namespace hearth::http
