// Uploads: blobs as they come from clients; the loop's side of BlobStore.
//
// Every piece is written and hashed on the uploads' thread and waited for, so an
// upload is in memory with one piece at a time and its sender goes at the disk's pace.
//
// Threads:   the loop's. Ownership: the store and the thread outlive it; an Upload
//            that is dropped before finish() leaves nothing, and may outlive it.
// Limits:    kUploadsMax at once; one more is `overloaded`.
// Errors:    of BlobStore.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "library/blobs.h"
#include "net/loop.h"
#include "net/task.h"

namespace hearth::library {

class WorkThread;
struct UploadsState;

inline constexpr std::size_t kUploadsMax = 8;

class Uploads {
public:
    // One on its way.
    class Upload {
    public:
        ~Upload();
        Upload(Upload const&) = delete;
        Upload& operator=(Upload const&) = delete;

        // One after the other.
        net::Task<Status> append(std::string bytes);
        net::Task<Status> finish();

    private:
        friend class Uploads;
        // Takes over a place that was counted.
        Upload(net::Loop& loop, std::shared_ptr<UploadsState> state, std::shared_ptr<BlobUpload> file)
            : loop_(loop), state_(std::move(state)), file_(std::move(file)) {}
        net::Loop& loop_;
        std::shared_ptr<UploadsState> state_;
        std::shared_ptr<BlobUpload> file_;
    };

    // Whether a file of that digest is there without having been uploaded.
    using IsKnown = std::function<bool(std::string const& hex)>;

    Uploads(net::Loop& loop, WorkThread& thread, BlobStore const& store, IsKnown is_known);
    ~Uploads();
    Uploads(Uploads const&) = delete;
    Uploads& operator=(Uploads const&) = delete;

    // Uploaded, or known. `digest`: as parse_digest() takes it.
    net::Task<Result<bool>> has(std::string digest);

    // Null if it is there already. `bytes`: how many will come, if that is known.
    net::Task<Result<std::unique_ptr<Upload>>> begin(std::string digest, std::optional<std::uint64_t> bytes);

private:
    net::Loop& loop_;
    BlobStore const& store_;
    IsKnown const is_known_;
    std::shared_ptr<UploadsState> const state_;
};

}  // namespace hearth::library
