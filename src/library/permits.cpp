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

bool lies_in(std::string_view path, std::string_view folder) {
    while (folder.ends_with('/')) folder.remove_suffix(1);
    return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
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

Status Permits::may_open(std::string const& path, std::span<std::string const> names,
                         std::span<std::string const> folders) const {
    bool const inside = std::ranges::any_of(folders, [&](auto const& folder) { return lies_in(path, folder); });
    // Not whether it is there: that is nobody's business.
    if (!inside && !open_)
        return not_allowed(
            "files outside of the models folders are not served by a server that listens beyond this machine");
    std::vector<std::string> all(names.begin(), names.end());
    all.push_back(path);
    return may_load(all);
}

}  // namespace hearth::library
