#include "library/held_bytes.h"

#include <filesystem>
#include <system_error>

namespace hearth::library {
namespace {

bool is_there(std::string const& path) {
    std::error_code failed;
    return std::filesystem::is_regular_file(path, failed);
}

}  // namespace

std::optional<std::string> HeldBytes::find(std::string const& sha256) {
    {
        std::lock_guard const lock(mutex_);
        for (auto const& [hash, path] : brought_)
            if (hash == sha256 && is_there(path)) return path;
    }
    for (auto& path : known_(sha256))
        if (is_there(path)) return std::move(path);
    return std::nullopt;
}

bool HeldBytes::begin(std::string const& sha256) {
    std::lock_guard const lock(mutex_);
    return on_their_way_.insert(sha256).second;
}

void HeldBytes::end(std::string const& sha256, std::string const& path) {
    std::lock_guard const lock(mutex_);
    on_their_way_.erase(sha256);
    if (path.empty()) return;
    brought_.emplace_front(sha256, path);
    if (brought_.size() > kBroughtMax) brought_.pop_back();
}

}  // namespace hearth::library
