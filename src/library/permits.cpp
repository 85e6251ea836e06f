#include "library/permits.h"

#include <fnmatch.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/ascii.h"

namespace hearth::library {
namespace {

constexpr std::size_t kNameShown = 128;

Error forbidden(std::span<std::string const> names, std::string_view why) {
    auto const name = names.empty() ? std::string() : names.front().substr(0, kNameShown);
    return not_allowed(fmt::format("model '{}' {}", name, why));
}

constexpr std::string_view kNotNamed = "is not among those this server may use (--allow-model)";

}  // namespace

Error not_allowed(std::string message) { return {Code::unsupported, std::move(message), std::string(kNotAllowed)}; }

Result<Permits> Permits::create(std::vector<std::string> patterns, bool open) {
    if (patterns.size() > kPatternsMax)
        return Error(Code::invalid_argument,
                     fmt::format("--allow-model is given {} times, the limit is {}", patterns.size(), kPatternsMax),
                     "--allow-model");
    for (auto& pattern : patterns) {
        if (pattern.empty() || pattern.size() > kPatternBytesMax)
            return Error(Code::invalid_argument,
                         fmt::format("--allow-model takes a pattern of 1 to {} bytes, this one has {}",
                                     kPatternBytesMax, pattern.size()),
                         "--allow-model");
        pattern = ascii_lower(pattern);
    }
    return Permits(std::move(patterns), open);
}

bool Permits::matches(std::span<std::string const> names) const {
    return std::ranges::any_of(names, [&](std::string const& name) {
        auto const lower = ascii_lower(name);
        return std::ranges::any_of(patterns_, [&](std::string const& pattern) {
            return ::fnmatch(pattern.c_str(), lower.c_str(), FNM_NOESCAPE) == 0;
        });
    });
}

Status Permits::may_load(std::span<std::string const> names) const {
    if (patterns_.empty() || matches(names)) return ok();
    return forbidden(names, kNotNamed);
}

Status Permits::may_change(std::span<std::string const> names) const {
    if (patterns_.empty() && !open_)
        return forbidden(names,
                         "cannot be pulled or changed: this server listens beyond this machine, and no --allow-model "
                         "says which models clients may get");
    return may_load(names);
}

Status Permits::may_change_some() const {
    if (!patterns_.empty() || open_) return ok();
    return not_allowed(
        "files cannot be uploaded: this server listens beyond this machine, and no --allow-model says which models "
        "clients may make");
}

}  // namespace hearth::library
