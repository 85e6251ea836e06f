// Downloader: one file from one address to one path, as fast and as surely as
// the other side allows.
//
// A file is fetched in pieces over several connections where the server serves
// ranges, else in one stream. What an earlier run left is used if the server
// (If-Range) or the expected hash vouches for it. Under its path a file appears
// whole and checked, or not at all: see partial_file.h for how.
//
// Threads:   all on the loop's thread; writing, hashing and syncing run on four of its own.
// Ownership: the loop and the client outlive it. What is running is to be
//            awaited before it goes.
// Sharing:   two downloads of the same address to the same path are one transfer;
//            another process at the same path is waited for.
// Limits:    DownloadOptions.
// Errors:    of Client, and: `corrupt` for what does not have the hash or size it
//            must have, `exhausted` where the disk is full, `not_found`, `unsupported`
//            with kRefused (the server wants another token), `io` (other answers it does
//            not explain, or the disk), `cancelled`. All but `corrupt` keep what was
//            fetched for the next time, also by an earlier run.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "fetch/client.h"
#include "net/loop.h"

namespace hearth::fetch {

struct DownloadOptions {
    unsigned connections = 4;                             // of one file
    std::uint64_t piece_bytes = 16U << 20;                // one request
    unsigned tries_max = 6;                               // in a row without a new byte
    unsigned failures_max = 1000;                         // of one file altogether
    unsigned fresh_starts_max = 2;                        // after a changed file or a wrong hash
    Duration backoff_first = std::chrono::milliseconds(500);
    Duration backoff_max = std::chrono::seconds(30);
    Duration retry_after_max = std::chrono::minutes(5);   // longer, and the download fails
    Duration lock_wait_max = std::chrono::hours(2);       // for another process
    Duration save_every = std::chrono::seconds(1);        // what a kill costs at most
    std::uint64_t save_bytes = 256U << 20;                // whichever comes first
    std::uint64_t file_bytes_max = std::uint64_t{1} << 42;
    // How long a pause of so long takes: what tests replace.
    std::function<Duration(Duration)> pause = [](Duration asked) { return asked; };
};

// What to do with another file at the path, or one that cannot be read.
enum class Existing : std::uint8_t { replace, keep };

struct FileRequest {
    Url url;
    std::string path;                   // its folder exists
    std::string authorization;          // for the origin of `url`
    HeaderList headers;
    std::string sha256;                 // empty: unknown
    std::optional<std::uint64_t> size;  // none: unknown
    std::string present_etag;           // of what lies at `path` already, where no hash is known
    Existing existing = Existing::replace;  // keep: fails with `invalid_argument`
    // A file of this machine that should hold the bytes of `sha256`: copied rather than fetched, unless
    // the download was begun already. Where it does not hold them they are fetched. Empty: none.
    std::string held;
};

enum class Stage : std::uint8_t { locked, connecting, pausing, fetching, verifying, done };

struct FileProgress {
    Stage stage = Stage::connecting;
    std::uint64_t done = 0, total = 0;  // bytes; total is 0 while unknown
    std::string note;                   // why it pauses
};

struct FileResult {
    std::uint64_t size = 0;
    std::string sha256, etag;
    std::uint64_t fetched = 0;  // over the network, by this call
    bool present = false;       // was there already
};

class Transfer;

class Downloader {
public:
    Downloader(net::Loop& loop, Client& client, DownloadOptions options);
    ~Downloader();
    Downloader(Downloader const&) = delete;
    Downloader& operator=(Downloader const&) = delete;

    // Ends when the file is there or cannot be. `on_progress` is called on every
    // change; what it says is for the eye.
    net::Task<Result<FileResult>> fetch(FileRequest request, std::function<void(FileProgress const&)> on_progress);

    // Ends the transfers with `cancelled`; what was fetched is kept.
    void cancel(std::string const& path);
    void cancel_all();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace hearth::fetch
