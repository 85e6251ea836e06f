// Transfer: one file on its way; what Downloader::fetch() callers share. Private to fetch.
//
// The life of one: take the lock → what is there already, and what may be copied? → first answer, which
// says the size and whether ranges are served → pieces by several workers, or one
// stream, into a Landing, which writes and hashes → publish. A step that fails
// ends in an Outcome that says how to go on; one loop, run_attempts(), does so.
//
// Threads: the loop's; hash and disk on the pool, see blocking.h.
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fetch/byte_ranges.h"
#include "fetch/downloader.h"
#include "fetch/landing.h"
#include "fetch/partial_file.h"

namespace hearth::fetch {

// How a step ended, and so what comes next.
struct Outcome {
    enum class Next : std::uint8_t { done, again, afresh, fail };
    Next next = Next::done;
    Error error;
    std::optional<Duration> after;  // again: the server's wish
};

class Transfer : public std::enable_shared_from_this<Transfer> {
public:
    using Listener = std::function<void(FileProgress const&)>;

    Transfer(net::Loop& loop, Client& client, boost::asio::thread_pool& pool, DownloadOptions const& options,
             FileRequest request);
    Transfer(Transfer const&) = delete;
    Transfer& operator=(Transfer const&) = delete;

    // Runs to the end; then result() is there. Once.
    net::Task<void> run();
    // From now on it is told; may be empty.
    void listen(Listener listener);
    // Waits for the end of a run() somebody spawned.
    net::Task<Result<FileResult>> join();
    void cancel();

    [[nodiscard]] FileRequest const& request() const { return request_; }

private:
    net::Task<Status> take_lock();
    net::Task<Result<bool>> is_present();
    // Whether the file came from what this machine holds. False: it is to be fetched.
    net::Task<Result<bool>> copy_held();
    [[nodiscard]] FileResult result_without_fetching() const;
    // Whether the partial file is to stay for the next time.
    [[nodiscard]] bool is_of_use_later() const;
    net::Task<Result<FileResult>> run_attempts();
    net::Task<Outcome> attempt();
    net::Task<Outcome> begin();
    net::Task<Outcome> begin_with(std::unique_ptr<Response> answer, ByteRange asked);
    net::Task<Outcome> accept_size(std::uint64_t size);
    void start_landing();
    net::Task<void> land();
    net::Task<Outcome> finish();

    net::Task<void> worker(std::unique_ptr<Response> first, ByteRange piece);
    net::Task<Outcome> fetch_piece(std::unique_ptr<Response> answer, ByteRange& piece);
    net::Task<Outcome> fetch_stream(std::unique_ptr<Response> answer);
    net::Task<Outcome> store_body(Response& answer, ByteRange& piece);
    // Until the chunk is full or has waited long enough; what ended the body, if something did.
    net::Task<std::optional<Outcome>> fill(Response& answer, ByteRange& piece, Chunk& chunk);
    Outcome body_ended(Response const& answer, ByteRange& piece);
    net::Task<Result<std::unique_ptr<Response>>> ask(ByteRange range);
    Outcome judge_status(Response const& answer);
    Outcome judge_range(Response const& answer, ByteRange asked);
    // Counts the failure and waits; the end of all trying when it is one too many.
    net::Task<std::optional<Outcome>> pause_after(Outcome failure, unsigned& in_row, bool was_of_use);

    net::Task<void> sync_data();
    net::Task<void> save_state();
    void save_if_due();
    void end_with(Outcome outcome);  // first one counts; stops all others
    void spawn(net::Task<void> task, unsigned& count);
    net::Task<void> counted(net::Task<void> task, unsigned& count);
    void report(Stage stage, std::string note = {});
    [[nodiscard]] std::string expected_sha256() const;
    void forget_answer();

    net::Loop& loop_;
    Client& client_;
    boost::asio::thread_pool& pool_;
    DownloadOptions const& options_;
    FileRequest const request_;
    SteadyClock clock_;

    std::unique_ptr<PartialFile> file_;
    // What is known of the file, and which of its bytes are there.
    PartialState state_;
    ByteRanges taken_;            // there, or on their way
    std::optional<std::uint64_t> size_;
    std::string last_modified_;
    struct Direct {
        Url url;
        AddressClass led_from;
    };
    std::optional<Direct> direct_;  // where the first answer came from, when redirected
    std::unique_ptr<Response> first_;
    ByteRange first_piece_;
    bool begun_ = false;  // state_ speaks for the partial file
    bool ranged_ = false;

    std::unique_ptr<Landing> landing_;  // of this attempt
    std::uint64_t landing_bytes_ = 0;   // that came and are not written yet
    std::uint64_t hashed_ = 0;
    bool all_came_ = false;

    std::optional<Outcome> ended_;
    std::shared_ptr<Abort> abort_;
    unsigned workers_ = 0, syncs_ = 0;  // that run
    net::Signal one_ended_;
    unsigned failures_ = 0, fresh_starts_ = 0;
    bool saving_ = false;
    Instant saved_at_{};
    Duration save_took_{};
    std::uint64_t saved_bytes_ = 0;
    std::uint64_t fetched_ = 0;

    std::atomic<bool> cancelled_ = false;  // the pool's threads ask, too
    bool present_ = false;
    FileProgress progress_;
    std::vector<Listener> listeners_;
    std::optional<Result<FileResult>> result_;
    std::vector<std::shared_ptr<net::Signal>> joiners_;
};

}  // namespace hearth::fetch
