// Options of a store, and the values they are made of.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvstore/folder.h"

namespace hearth::kvstore {

using Token = std::int32_t;
using Digest = std::array<std::byte, 16>;
using SealKey = std::array<std::byte, 32>;

// Who may share prefixes. Equal tenant, salt and adapters (what names those its cells
// depend on; empty: none), equal space, also after a restart.
// Whose it is: what all spaces of a tenant hold counts as one account.
struct Space {
    Digest digest{};   // of tenant, salt and adapters
    Digest account{};  // of the tenant
    auto operator<=>(Space const&) const = default;
};
[[nodiscard]] Space space_of(std::string_view tenant, std::string_view salt, std::string_view adapters = {});

struct Options {
    std::uint64_t memory_bytes = 0;   // of blobs kept in memory; with a folder at least kWriteBufferBytes
    std::uint64_t disk_bytes = 0;     // of files
    std::shared_ptr<Folder> folder;   // null: nothing is written
    std::string state_key;            // all that the bits of a blob depend on: model, build, types
    std::optional<SealKey> seal_key;  // files are sealed with it
    std::vector<std::pair<std::string, double>> tenant_weights;  // shares of both tiers, of those that do not weigh 1
    std::uint64_t write_bytes_per_s = 32U << 20;  // in the long run, so that a busy server spares the medium
    std::uint64_t write_burst_bytes = 1U << 30;
    std::function<void(int level, std::string_view text)> log;  // 0 debug .. 3 error; from any thread; may be empty
    // A fetch ended, or writes() holds again after it did not. From a thread of the store's; may be empty.
    std::function<void()> on_ready;
};

inline constexpr std::uint64_t kWriteBufferBytes = 64U << 20;

}  // namespace hearth::kvstore
