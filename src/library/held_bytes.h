// HeldBytes: which bytes this machine has, or is getting, for all pulls of a process.
//
// Has: as `known` says, which is the catalog; and what pulls brought since then, which the
// catalog may not have seen yet. Getting: one pull at a time has the right to fetch bytes of
// one SHA-256, the others wait and link what it got.
//
// Threads: any.
// Limits:  kBroughtMax of those that came are remembered, the latest ones.
// Private to library, but for `hearth pull` in its own process.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fetch/sources/holdings.h"

namespace hearth::library {

inline constexpr std::size_t kBroughtMax = 1024;

class HeldBytes final : public fetch::Holdings {
public:
    // Paths of files that should hold those bytes. Called on the threads of pulls; may block.
    using Known = std::function<std::vector<std::string>(std::string const& sha256)>;

    explicit HeldBytes(Known known) : known_(std::move(known)) {}

    [[nodiscard]] std::optional<std::string> find(std::string const& sha256) override;
    [[nodiscard]] bool begin(std::string const& sha256) override;
    void end(std::string const& sha256, std::string const& path) override;

private:
    Known const known_;
    std::mutex mutex_;  // guards what follows
    std::set<std::string> on_their_way_;
    std::deque<std::pair<std::string, std::string>> brought_;  // SHA-256 and path, the latest first
};

}  // namespace hearth::library
