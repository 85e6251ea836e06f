#include "fetch/transfer.h"

#include <sys/stat.h>

#include <algorithm>

#include <fmt/format.h>

#include "fetch/answer_rules.h"
#include "fetch/blocking.h"

namespace hearth::fetch {
namespace {

constexpr Duration kPauseSlice = std::chrono::milliseconds(100);  // how soon a cancel is noticed
constexpr Duration kLockPoll = std::chrono::milliseconds(500);
constexpr Duration kSavePauseMin = std::chrono::milliseconds(50);
constexpr int kSaveShare = 20;
constexpr std::size_t kChunksSpare = 8;  // beside the one that each connection fills
constexpr std::size_t kChunksKept = 64;  // what the connections are ahead of each other: a piece each, and no more

using Next = Outcome::Next;

std::optional<std::uint64_t> size_of(std::string const& path) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
    return static_cast<std::uint64_t>(info.st_size);
}

net::Task<void> keep(std::shared_ptr<Transfer> self, net::Task<void> task) {
    co_await std::move(task);
    self.reset();
}

double seconds(Duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

Transfer::Transfer(net::Loop& loop, Client& client, boost::asio::thread_pool& pool, DownloadOptions const& options,
                   FileRequest request)
    : loop_(loop),
      client_(client),
      pool_(pool),
      options_(options),
      request_(std::move(request)),
      abort_(std::make_shared<Abort>()),
      one_ended_(loop) {}

net::Task<void> Transfer::run() {
    bool const was_there = size_of(request_.path).has_value();
    auto locked = co_await take_lock();
    Result<FileResult> result = Error(Code::internal, "not run");
    if (!locked) {
        result = locked.error();
    } else {
        auto present = co_await is_present();
        // By the process that was waited for. Where a hash is known it decides.
        bool const came_meanwhile = !was_there && size_of(request_.path).has_value();
        if (!present) {
            result = present.error();
        } else if (*present || (came_meanwhile && request_.sha256.empty())) {
            size_ = size_of(request_.path);
            file_->discard();
            result = result_without_fetching();
        } else {
            auto const copied = co_await copy_held();
            if (!copied) result = copied.error();
            else if (*copied) result = result_without_fetching();
            else result = co_await run_attempts();
        }
    }
    if (!result && file_ && !is_of_use_later()) file_->discard();
    file_.reset();  // the lock goes before anybody hears of the end
    if (result) report(Stage::done);
    result_ = std::move(result);
    for (auto const& joiner : joiners_) joiner->notify();
}

// Who ends before the server was asked anything leaves what an earlier run has fetched.
bool Transfer::is_of_use_later() const {
    if (begun_) return ranged_ && !state_.done.pieces().empty();
    auto const left = file_->load();
    return left && !left->done.pieces().empty();
}

FileResult Transfer::result_without_fetching() const {
    FileResult result;
    result.size = size_.value_or(0);
    result.sha256 = request_.sha256;
    result.present = true;
    return result;
}

void Transfer::listen(Listener listener) {
    if (listener) listeners_.push_back(std::move(listener));
}

net::Task<Result<FileResult>> Transfer::join() {
    auto const ended = std::make_shared<net::Signal>(loop_);
    joiners_.push_back(ended);
    while (!result_) co_await ended->wait();
    co_return *result_;
}

void Transfer::cancel() {
    cancelled_ = true;
    abort_->request();
    if (landing_) landing_->stop();
}

net::Task<Status> Transfer::take_lock() {
    for (Duration waited{}; !cancelled_; waited += kLockPoll) {
        auto opened = PartialFile::open(request_.path);
        if (opened) {
            file_ = std::move(*opened);
            co_return ok();
        }
        if (opened.error().code != Code::unavailable) co_return opened.error();
        if (waited >= options_.lock_wait_max)
            co_return Error(Code::unavailable, fmt::format("{}, for more than {} s", opened.error().message,
                                                           seconds(options_.lock_wait_max)));
        report(Stage::locked, opened.error().message);
        co_await loop_.sleep(options_.pause(kLockPoll));
    }
    co_return Error(Code::cancelled, "the download was cancelled");
}

net::Task<Result<bool>> Transfer::is_present() {
    auto const size = size_of(request_.path);
    if (!size) co_return false;
    bool same = false;
    if (!request_.sha256.empty() && size == request_.size.value_or(*size)) {
        report(Stage::verifying);
        auto hash = [this] { return digest::sha256_of_file(request_.path, [this] { return cancelled_.load(); }); };
        auto const found = co_await blocking(pool_, std::move(hash));
        // What cannot be read is not what is wanted, and is replaced where it may be.
        bool const unreadable = !found && found.error().code == Code::io && request_.existing == Existing::replace;
        if (!found && !unreadable) co_return found.error();
        same = found && *found == request_.sha256;
    }
    if (!same && request_.existing == Existing::keep)
        co_return Error(Code::invalid_argument, fmt::format("'{}' is there and is not what {} has; it stays as it is",
                                                            request_.path, request_.url.text_without_query()));
    co_return same;
}

net::Task<Result<FileResult>> Transfer::run_attempts() {
    unsigned in_row = 0;
    for (;;) {
        auto outcome = co_await attempt();
        if (cancelled_)
            co_return Error(Code::cancelled, fmt::format("the download of '{}' was cancelled", request_.path));
        if (outcome.next == Next::again) {
            auto last = co_await pause_after(outcome, in_row, false);
            if (last) outcome = std::move(*last);
        } else if (outcome.next == Next::afresh) {
            forget_answer();
            auto const cleared = file_->clear();
            if (!cleared) co_return cleared.error();
            if (++fresh_starts_ > options_.fresh_starts_max) {
                file_->discard();
                outcome.next = Next::fail;
                outcome.error.message += fmt::format("; gave up after {} fresh starts", options_.fresh_starts_max);
            }
        }
        if (outcome.next == Next::fail) co_return outcome.error;
        if (outcome.next == Next::done) break;
    }
    FileResult result;
    result.size = *size_;
    result.sha256 = present_ ? std::string() : state_.sha256;
    result.etag = state_.etag;
    result.fetched = fetched_;
    result.present = present_;
    co_return result;
}

net::Task<Outcome> Transfer::attempt() {
    ended_.reset();
    abort_ = std::make_shared<Abort>();
    if (cancelled_) abort_->request();
    landing_bytes_ = hashed_ = 0;
    all_came_ = false;
    auto begun = co_await begin();
    if (begun.next != Next::done || present_) {
        if (present_) file_->discard();
        co_return begun;
    }
    saved_at_ = clock_.now();
    saved_bytes_ = state_.done.total();
    start_landing();
    if (!ranged_) {
        auto streamed = co_await fetch_stream(std::move(first_));
        if (streamed.next != Next::done) end_with(std::move(streamed));
    } else {
        spawn(worker(std::move(first_), first_piece_), workers_);
        for (unsigned i = 1; i < options_.connections; ++i) spawn(worker(nullptr, ByteRange{}), workers_);
    }
    while (workers_ > 0) co_await one_ended_.wait();
    co_await land();
    co_return co_await finish();
}

void Transfer::start_landing() {
    Landing::Events events;
    events.written = [this](ByteRange range) {
        landing_bytes_ -= range.size();
        save_if_due();
    };
    events.failed = [this](Error const& error) { end_with(Outcome{Next::fail, error, {}}); };
    events.hashed = [this](std::uint64_t bytes) {
        hashed_ = bytes;
        if (all_came_ && !ended_) report(Stage::verifying);
    };
    ChunkLimits const chunks{.moving = options_.connections + kChunksSpare, .kept = kChunksKept};
    landing_ = std::make_unique<Landing>(loop_, pool_, *file_, state_.done, chunks, std::move(events));
    loop_.spawn(keep(shared_from_this(), landing_->write()));
    loop_.spawn(keep(shared_from_this(), landing_->hash()));
}

// The end of what came: the disk and the hash come to theirs side by side.
net::Task<void> Transfer::land() {
    all_came_ = true;
    landing_->close();
    co_await landing_->until_written();
    if (!ended_ && !cancelled_) spawn(sync_data(), syncs_);
    co_await landing_->until_over();
    while (syncs_ > 0) co_await one_ended_.wait();
}

net::Task<Outcome> Transfer::finish() {
    if (!ended_) report(Stage::verifying);
    // What was hashed until then is not the file.
    if (cancelled_) end_with(Outcome{Next::fail, Error(Code::cancelled, "the download was cancelled"), {}});
    if (ended_) {
        if (ended_->next != Next::afresh && ranged_) co_await save_state();
        co_return *ended_;
    }
    if (state_.done.prefix() != *size_)
        co_return Outcome{Next::fail, Error(Code::internal, "bytes are missing that were fetched"), {}};
    auto const found = landing_->finish_hash();
    auto const expected = expected_sha256();
    if (!expected.empty() && found != expected)
        co_return Outcome{Next::afresh,
                          Error(Code::corrupt, fmt::format("'{}' has the wrong SHA-256: expected {}, got {}",
                                                           request_.url.text_without_query(), expected, found)),
                          {}};
    state_.sha256 = found;
    auto publish = [this] { return file_->publish(*size_); };
    auto const published = co_await blocking(pool_, std::move(publish));
    if (!published) co_return Outcome{Next::fail, published.error(), {}};
    co_return Outcome{};
}

net::Task<std::optional<Outcome>> Transfer::pause_after(Outcome failure, unsigned& in_row, bool was_of_use) {
    ++failures_;
    in_row = was_of_use ? 0 : in_row + 1;
    failure.next = Next::fail;
    if (cancelled_) co_return failure;
    if (in_row >= options_.tries_max || failures_ >= options_.failures_max) {
        failure.error.message += in_row >= options_.tries_max ? fmt::format("; gave up after {} tries", in_row)
                                                              : fmt::format("; gave up after {} failures", failures_);
        co_return failure;
    }
    // The other side works: go on at once, it is the number of failures that bounds this.
    if (was_of_use && !failure.after) co_return std::nullopt;
    auto wait = std::min(options_.backoff_max, options_.backoff_first * (1U << std::min(in_row, 16U)) / 2);
    if (failure.after && *failure.after > options_.retry_after_max) {
        failure.error.message += fmt::format("; the server asks to wait {} s, the limit is {} s",
                                             seconds(*failure.after), seconds(options_.retry_after_max));
        co_return failure;
    }
    if (failure.after) wait = std::max(wait, *failure.after);
    report(Stage::pausing, fmt::format("{}; trying again in {:.1f} s", failure.error.message, seconds(wait)));
    auto left = options_.pause(wait);
    while (left > Duration::zero() && !cancelled_ && !ended_) {
        auto const slice = std::min(left, kPauseSlice);
        co_await loop_.sleep(slice);
        left -= slice;
    }
    co_return std::nullopt;
}

net::Task<void> Transfer::sync_data() {
    auto sync = [this] { return file_->sync(); };
    auto const synced = co_await blocking(pool_, std::move(sync));
    if (!synced) end_with(Outcome{Next::fail, synced.error(), {}});
}

net::Task<void> Transfer::save_state() {
    auto const snapshot = state_;
    auto save = [this, &snapshot] { return file_->save(snapshot); };
    auto const began = clock_.now();
    auto const saved = co_await blocking(pool_, std::move(save));
    save_took_ = clock_.now() - began;
    if (!saved) end_with(Outcome{Next::fail, saved.error(), {}});
    saving_ = false;
}

void Transfer::save_if_due() {
    if (!ranged_ || saving_ || ended_) return;
    auto const bytes = state_.done.total();
    // As often as it costs a twentieth of the time.
    auto const pause = std::clamp<Duration>(kSaveShare * save_took_, kSavePauseMin, options_.save_every);
    bool const due = bytes - std::min(bytes, saved_bytes_) >= options_.save_bytes || clock_.now() - saved_at_ >= pause;
    if (!due) return;
    saving_ = true;
    saved_bytes_ = bytes;
    saved_at_ = clock_.now();
    spawn(save_state(), syncs_);
}

void Transfer::end_with(Outcome outcome) {
    if (ended_) return;
    ended_ = std::move(outcome);
    abort_->request();
    if (landing_) landing_->stop();
}

void Transfer::spawn(net::Task<void> task, unsigned& count) {
    ++count;
    loop_.spawn(keep(shared_from_this(), counted(std::move(task), count)));
}

net::Task<void> Transfer::counted(net::Task<void> task, unsigned& count) {
    co_await std::move(task);
    --count;
    one_ended_.notify();
}

void Transfer::report(Stage stage, std::string note) {
    progress_.stage = stage;
    progress_.note = std::move(note);
    progress_.total = size_.value_or(0);
    progress_.done = stage == Stage::verifying ? hashed_ : state_.done.total() + landing_bytes_;
    for (auto const& listener : listeners_) listener(progress_);
}

std::string Transfer::expected_sha256() const { return request_.sha256.empty() ? state_.sha256 : request_.sha256; }

void Transfer::forget_answer() {
    direct_.reset();
    first_.reset();
    state_ = {};
    last_modified_.clear();
}

}  // namespace hearth::fetch
