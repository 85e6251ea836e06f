// BlobStore: files that clients upload before they make a model of them, by digest.
//
//   FOLDER/sha256-HEX             whole, and of that digest
//   FOLDER/.sha256-HEX.XXXXXX.part  on its way: private, locked by who writes it
//   FOLDER/.making-XXXXXX/          where a model is made of them, see StagingFolder
//
// The folder is the user's alone; a blob is a file for everybody, as the models are that
// are made of it by a link. A blob's time begins anew when somebody asks for it, uploads
// it again or uses it; it is the file's time of access, so that no model made of it changes,
// and reading such a model counts as use where the file system writes these times.
//
// A name is made of a digest's 64 digits and of nothing else a client says. Bytes
// are hashed as they come; what has another digest gets no name: verify, sync,
// rename, sync of the folder. A killed process leaves only what tidy() removes.
//
// Threads:   any, several at once, also of several processes.
// Ownership: a BlobUpload owns its file until it has its name; dropped before, the
//            file is gone.
// Limits:    Options; what does not fit is refused before its first byte.
// Errors:    `invalid_argument` for what is no digest, `corrupt` for another digest,
//            `too_large` above bytes_max, `exhausted` for a disk without room,
//            `overloaded` for too many blobs, `not_found`, `io`.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hearth::library {

inline constexpr std::uint64_t kBlobBytesMax = std::uint64_t{1} << 40;
inline constexpr std::size_t kBlobsMax = 4096;

// The 64 digits of "sha256:HEX" or "sha256-HEX", in lower case; `invalid_argument` for anything else.
[[nodiscard]] Result<std::string> parse_digest(std::string_view text);

class BlobUpload {
public:
    ~BlobUpload();
    BlobUpload(BlobUpload const&) = delete;
    BlobUpload& operator=(BlobUpload const&) = delete;

    [[nodiscard]] Status append(std::string_view bytes);
    // Gives it its name if it has the digest that was said.
    [[nodiscard]] Status finish();

private:
    friend class BlobStore;
    struct File;
    explicit BlobUpload(std::unique_ptr<File> file);
    std::unique_ptr<File> file_;
};

class BlobStore {
public:
    struct Options {
        std::string folder{};  // made, for the user alone, if it is not there
        std::uint64_t bytes_max = kBlobBytesMax;  // of one
        std::size_t blobs_max = kBlobsMax;
        // Of the disk, that others may need. Where nobody said how many bytes will come, it
        // is looked at again every 64 MiB of them.
        std::uint64_t bytes_spare = std::uint64_t{256} << 20;
        std::chrono::seconds unused_max = std::chrono::hours(24);
        std::function<Result<std::uint64_t>(std::string const& folder)> free_bytes{};  // empty: the disk is asked
    };
    explicit BlobStore(Options options);

    [[nodiscard]] std::string const& folder() const { return options_.folder; }

    // Whether it is there; then its time begins anew. REQUIRES: `hex` is of parse_digest()
    [[nodiscard]] bool has(std::string const& hex) const;

    // Nothing if it is there already, which begins its time anew. `bytes`: how many will come, if that is known.
    [[nodiscard]] Result<std::unique_ptr<BlobUpload>> begin(std::string const& hex,
                                                            std::optional<std::uint64_t> bytes) const;

    // A further name for it, which must not be there yet and is on the same file system;
    // its time begins anew.
    [[nodiscard]] Status link(std::string const& hex, std::string const& path) const;

    // Removes what killed processes left, and blobs nobody asked for within unused_max.
    void tidy(std::chrono::system_clock::time_point now) const;

private:
    [[nodiscard]] std::string path(std::string const& hex) const;
    [[nodiscard]] Status make_room(std::optional<std::uint64_t> bytes) const;
    [[nodiscard]] Result<std::unique_ptr<BlobUpload::File>> make_file(std::string const& hex) const;

    Options const options_;
    std::function<Result<std::uint64_t>()> const free_bytes_;
};

// StagingFolder: a private folder where one model is made, gone when it is dropped.
// It is locked: what a killed process left is removed by remove_stale().
class StagingFolder {
public:
    // In `parent`, which is made if it is not there.
    [[nodiscard]] static Result<StagingFolder> create(std::string const& parent);
    ~StagingFolder();
    StagingFolder(StagingFolder&& other) noexcept;
    StagingFolder& operator=(StagingFolder&&) = delete;

    [[nodiscard]] std::string const& path() const { return path_; }

    static void remove_stale(std::string const& parent);

private:
    StagingFolder(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}
    std::string path_;  // empty: moved from
    int lock_;
};

}  // namespace hearth::library
