// WholeFile: a file that has its name when it is complete, valid and on the disk,
// and is absent before.
//
// The bytes go to a private file beside the target (".NAME.XXXXXX.part", mode
// 0600). finish() has our own validator read it, then fsync, rename, fsync of
// the folder: the target's name never stands for half a file. Dropped before
// that, or after a failure, the file is removed. What a killed process left is
// removed when the next one writes the same target; a lock tells it from the
// file of one that still works.
//
// Threads: one. Ownership: owns the open file until it is dropped.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"

namespace hearth::formats {

enum class Existing : std::uint8_t { refuse, replace };

class WholeFile {
public:
    struct Options {
        std::string path;
        Existing existing = Existing::refuse;
        unsigned mode = 0644;  // of the finished file
    };

    // `io` says what the system refused, `invalid_argument` that the target exists.
    [[nodiscard]] static Result<WholeFile> create(Options options);

    ~WholeFile();
    WholeFile(WholeFile&&) noexcept;
    WholeFile& operator=(WholeFile&&) = delete;

    [[nodiscard]] int fd() const;
    // Where the bytes are until finish().
    [[nodiscard]] std::string const& temporary() const;

    // Room for so many bytes, where the file system can reserve it: a full disk is
    // better known now than after an hour.
    [[nodiscard]] Status reserve(std::uint64_t bytes);

    // Another name in the same folder, as create() would take it.
    [[nodiscard]] Status rename_target(std::string const& name);

    // Gives the file its name. `unsupported` with the validator's word if it is no
    // model that would be served.
    [[nodiscard]] Status finish();

    // Its path, once it is finished; what it is going to be before.
    [[nodiscard]] std::string const& path() const;

private:
    struct File;
    explicit WholeFile(std::unique_ptr<File> file);

    std::unique_ptr<File> file_;
};

}  // namespace hearth::formats
