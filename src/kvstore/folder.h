// Folder: the one directory in which a store keeps its files.
//
// A parameter of the store, so that tests can let any operation fail. The real
// one works below a descriptor that is opened before a sandbox is entered; names
// are plain file names, never paths.
//
// Threads: any; each call is independent. Errors: `not_found`, `io` with the
// system's words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace hearth::kvstore {

class Folder {
public:
    struct File {
        std::string name;
        std::uint64_t bytes = 0;
        std::int64_t modified_ns = 0;  // since 1970
    };

    virtual ~Folder() = default;

    // The regular files, in no order; at most `files_max` of them.
    [[nodiscard]] virtual Result<std::vector<File>> list(std::size_t files_max) = 0;

    // Fills `out` from `offset` on. Fails with `corrupt` when the file ends before.
    [[nodiscard]] virtual Status read(std::string const& name, std::uint64_t offset, std::span<std::byte> out) = 0;

    // Makes a new file of the parts, one after the other; on the medium when this
    // returns ok(). On error a part of the file may exist.
    [[nodiscard]] virtual Status write(std::string const& name, std::span<std::span<std::byte const> const> parts) = 0;

    // Gives the file another name, replacing what had it: entirely or not at all,
    // also when the machine stops. On the medium when this returns ok().
    [[nodiscard]] virtual Status rename(std::string const& from, std::string const& to) = 0;

    [[nodiscard]] virtual Status remove(std::string const& name) = 0;

    // The file was of use now.
    [[nodiscard]] virtual Status touch(std::string const& name) = 0;

    // Another process may have it open, too.
    [[nodiscard]] virtual bool is_shared() const { return false; }

    // A temporary file that was last written then or before (since 1970) is nobody's any more.
    [[nodiscard]] virtual std::int64_t abandoned_ns() const { return std::numeric_limits<std::int64_t>::max(); }
};

// A folder of the file system, made with mode 0700 (parents too) if it is not there.
// Its descriptor must survive a sandbox. As long as it is open it has a shared lock
// (flock) on the folder, so that nobody removes it.
class SystemFolder : public Folder {
public:
    // Fails with `io`, also when others than the user could write into it.
    [[nodiscard]] static Result<std::unique_ptr<SystemFolder>> open(std::string const& path);
    [[nodiscard]] virtual int fd() const = 0;
};

}  // namespace hearth::kvstore
