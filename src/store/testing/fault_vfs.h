// FaultVfs: the system's files for SQLite, of which any write can fail.
//
// Counts what changes the medium (write, truncate, sync, growth of shared
// memory); from operation `first` on, `count` of them fail. For tests; one at a
// time, one thread.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace hearth::store::testing {

enum class Fault : std::uint8_t { disk_full, io_error };

class FaultVfs {
public:
    static constexpr std::uint64_t kForever = std::numeric_limits<std::uint64_t>::max();

    FaultVfs();
    ~FaultVfs();
    FaultVfs(FaultVfs const&) = delete;
    FaultVfs& operator=(FaultVfs const&) = delete;

    // For Options::vfs.
    [[nodiscard]] static std::string name();

    // Counts from 1 again.
    void fail(Fault kind, std::uint64_t first, std::uint64_t count = kForever);
    void heal();
    [[nodiscard]] std::uint64_t failed() const;
};

}  // namespace hearth::store::testing
