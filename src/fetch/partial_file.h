// PartialFile: a download that is not whole yet, and how it becomes a file.
//
// Beside PATH lie, while it is fetched,
//   PATH.partial        the bytes, at their places; its lock says who is at it
//   PATH.partial.state  which of them are there, see docs/formats/partial-state.md
// Both are the user's alone. The state is written after the bytes it speaks of
// are on the medium, and replaced in one step, so that whatever ends the process
// (or the machine) it never claims what is not there. PATH itself appears by one
// rename of a file that was checked and synced.
//
// Threads: one at a time, but for save(), sync(), begin_sync() and read(), which may run beside write().
// Errors:  `unavailable` where another process holds the lock, `exhausted` where the
//          disk has no room (both numbers are quoted), `too_large` above what a file
//          may have here, else `io`.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "fetch/byte_ranges.h"

namespace hearth::fetch {

// What the state file holds.
struct PartialState {
    std::uint64_t size = 0;  // of the whole file
    std::string etag;        // strong, as the server wrote it; empty if it has none
    std::string sha256;      // of the whole file where it was known; else empty
    ByteRanges done;
};

[[nodiscard]] std::string render_state(PartialState const& state);
// `corrupt` for anything render_state() does not write.
[[nodiscard]] Result<PartialState> parse_state(std::string_view text);

class PartialFile {
public:
    static constexpr std::size_t kBlockBytes = 4096;
    static constexpr std::size_t kPartsMax = 16;

    // Creates or opens PATH.partial and locks it.
    [[nodiscard]] static Result<std::unique_ptr<PartialFile>> open(std::string path);
    // The same of one that is there; fails, and makes none, where there is none any more.
    [[nodiscard]] static Result<std::unique_ptr<PartialFile>> open_existing(std::string path);
    // Whether somebody, of whatever process, holds that lock now.
    [[nodiscard]] static bool is_held(std::string const& path);
    ~PartialFile();
    PartialFile(PartialFile const&) = delete;
    PartialFile& operator=(PartialFile const&) = delete;

    // What an earlier run left; none if there is nothing usable.
    [[nodiscard]] std::optional<PartialState> load() const;

    // Forgets all bytes and the state.
    Status clear();
    // Makes room for `size` bytes, after asking whether the disk has it.
    Status reserve(std::uint64_t size);
    // `parts`, one behind the other, at most kPartsMax of them. What begins and ends at multiples of kBlockBytes,
    // in the file and in memory, goes to the medium past the page cache where the file system lets it: a large
    // download costs half the time, and pushes nothing out of memory that somebody computes with.
    Status write(std::uint64_t offset, std::span<std::span<std::byte const> const> parts);
    Status write(std::uint64_t offset, std::span<std::byte const> bytes) { return write(offset, {&bytes, 1}); }
    // Fails where fewer bytes are there.
    Status read(std::uint64_t offset, std::span<std::byte> into) const;
    // Has the medium begin with these bytes, and waits for nothing but room in its queue.
    void begin_sync(ByteRange range) const;
    // The bytes written before the call reach the medium.
    Status sync() const;
    // As sync(), then the state reaches it too.
    // REQUIRES: `state` was true when the call began.
    Status save(PartialState const& state) const;
    // Cuts to `size`, syncs, and gives the file its name. Nothing may be called after.
    Status publish(std::uint64_t size);
    // Removes both files.
    void discard();

private:
    PartialFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
    [[nodiscard]] static Result<std::unique_ptr<PartialFile>> open_with(std::string path, int create);
    [[nodiscard]] std::string partial() const { return path_ + ".partial"; }
    [[nodiscard]] std::string state() const { return path_ + ".partial.state"; }

    [[nodiscard]] std::string unfinished_state() const;

    // Whether the bytes are written, and past the cache; what is left is for write().
    Result<bool> write_direct(std::uint64_t offset, std::span<std::span<std::byte const> const> parts);

    std::string const path_;
    int fd_;
    int direct_fd_ = -1;  // for whole blocks; -1: the file system takes none so
};

// Free bytes for this user in the folder of `path`.
[[nodiscard]] Result<std::uint64_t> free_bytes(std::string const& path);

}  // namespace hearth::fetch
