// Two threads beside the callers: the writer, which takes segments from the
// queue of dirty ones, and the reader, which serves fetches. The index is under
// one mutex, which is never held over I/O; what a thread works on outside is
// pinned in it.
#include "kvstore/store.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/clock.h"
#include "kvstore/disk_files.h"
#include "kvstore/pending_fetch.h"
#include "kvstore/segment_index.h"
#include "kvstore/write_budget.h"

namespace hearth::kvstore {
namespace {

constexpr Duration kDiskPause = std::chrono::seconds(30);  // after an operation failed
constexpr Duration kGoodbye = std::chrono::seconds(2);
constexpr std::uint64_t kLookFiles = 64;  // after so many files written, or
constexpr std::uint64_t kLookPart = 32;   // this part of the bound, others' files are counted again
constexpr std::size_t kFetchesMax = 256;  // that wait; further ones get what is in memory

class TieredStore final : public Store {
public:
    explicit TieredStore(Options options)
        : options_(std::move(options)),
          format_(options_.state_key, options_.seal_key),
          files_(options_.folder && options_.disk_bytes > 0
                     ? std::optional<DiskFiles>(std::in_place, options_.folder, format_)
                     : std::nullopt),
          memory_max_(std::max(options_.memory_bytes, files_ ? kWriteBufferBytes : 0)),
          budget_(options_.write_bytes_per_s, options_.write_burst_bytes) {
        for (auto const& [tenant, weight] : options_.tenant_weights) index_.set_weight(space_of(tenant, ""), weight);
        if (files_) open();
        if (!files_) return;
        writer_ = std::thread([this] { write_behind(); });
        reader_ = std::thread([this] { serve_fetches(); });
    }
    ~TieredStore() override { TieredStore::finish(); }

    [[nodiscard]] std::uint32_t find(Space const& space, std::span<Token const> text) const override;
    [[nodiscard]] std::uint32_t find_state(Space const& space, std::span<Token const> text) const override;
    [[nodiscard]] bool has_state(Space const& space, std::span<Token const> text) const override;
    void put(Space const& space, std::span<Token const> text, std::uint32_t begin, std::vector<std::byte> blob,
             Keep keep) override;
    void put_state(Space const& space, std::span<Token const> text, std::vector<std::byte> blob, Keep keep) override;
    [[nodiscard]] std::shared_ptr<Fetch> fetch(Space const& space, std::span<Token const> text, std::uint32_t from,
                                               Want want) override;
    void limit_memory(std::uint64_t bytes) override;
    [[nodiscard]] bool writes() const override;
    [[nodiscard]] Stats stats() const override;
    [[nodiscard]] Held held(Space const& space) const override;
    [[nodiscard]] bool wait_to_write(Duration at_most) override;
    void finish() override;
    void settle() override;
    void check_integrity() const override;

private:
    // What the writer does next.
    struct Job {
        SegmentId id;
        SegmentHead head;
        Digest key;
        std::shared_ptr<Blob const> blob;
        SegmentId parent;
    };

    void open();
    enum class Orphans : std::uint8_t { remove, count };
    void adopt(DiskFiles::Scan scan, Orphans orphans);
    [[nodiscard]] bool is_known(DiskFiles::Found const& found);
    [[nodiscard]] bool is_usable(DiskFiles::Found const& found, SegmentId parent);
    void look_again(std::unique_lock<std::mutex>& lock);
    void insert(SegmentHead head, SegmentId parent, std::vector<std::byte> blob, Keep keep);
    [[nodiscard]] bool make_memory_room(std::uint64_t bytes);
    [[nodiscard]] bool takes() const;
    void tell_if_it_takes_again(std::unique_lock<std::mutex>& lock);
    void write_behind();
    [[nodiscard]] std::optional<Job> next_job(std::unique_lock<std::mutex>& lock);
    void pop_dirty() {
        dirty_bytes_ -= dirty_.front().second;
        dirty_.pop_front();
    }
    void write(Job const& job, std::unique_lock<std::mutex>& lock);
    [[nodiscard]] bool make_disk_room(std::uint64_t bytes, std::unique_lock<std::mutex>& lock);
    void wrote(Job const& job, std::uint64_t bytes);
    void disk_failed(Error const& error, std::unique_lock<std::mutex>& lock);
    void remove_files(std::vector<Digest> const& keys, std::unique_lock<std::mutex>& lock);
    void serve_fetches();
    void read(PendingFetch& fetch, std::unique_lock<std::mutex>& lock);
    void log(int level, std::string const& text) const {
        if (options_.log) options_.log(level, text);
    }

    Options const options_;
    SegmentFormat const format_;
    std::optional<DiskFiles> files_;  // set before the threads start
    std::uint64_t const memory_max_;

    mutable std::mutex mutex_;  // guards all below but the threads
    std::uint64_t memory_limit_ = options_.memory_bytes;  // of what is kept
    std::condition_variable to_write_, to_read_, settled_;
    SegmentIndex index_;
    std::deque<std::pair<SegmentId, std::uint64_t>> dirty_;  // with the bytes of the blob
    std::uint64_t dirty_bytes_ = 0;  // of the queue
    mutable bool refused_ = false;  // what writes() said last
    std::uint64_t files_since_look_ = 0;
    std::uint64_t bytes_since_look_ = 0;
    std::deque<Folder::File> others_;
    std::uint64_t others_bytes_ = 0;
    std::deque<std::shared_ptr<PendingFetch>> fetches_;
    WriteBudget budget_;
    Instant disk_pause_end_{};
    bool writing_ = false;
    bool reading_ = false;
    std::optional<Instant> stop_by_;
    Stats stats_;  // the totals and disk_failing

    std::thread writer_;
    std::thread reader_;
};

// --- opening and closing ---

void TieredStore::open() {
    auto scan = files_->scan(4 * kSegmentsMax);
    if (!scan) {
        log(2, fmt::format("the prefix cache stays in memory: {}", scan.error().message));
        files_.reset();
        return;
    }
    adopt(std::move(scan).value(), files_->is_shared() ? Orphans::count : Orphans::remove);
    std::unique_lock lock(mutex_);
    (void)make_disk_room(0, lock);
    auto const stats = this->stats_;
    lock.unlock();
    log(1, fmt::format(
               "prefix cache on disk: {} segments of this model, {} MiB, {} files of others, {} damaged ones removed",
               index_.on_disk(), index_.disk_bytes() >> 20, others_.size(), stats.files_bad_total));
}

// It is in memory here, and another process wrote it. One that is to be written is
// counted when it is.
bool TieredStore::is_known(DiskFiles::Found const& found) {
    SegmentId const id = index_.by_key(found.key);
    if (id == kNoSegment) return false;
    auto const& segment = index_.at(id);
    if (!segment.condemned && !segment.dirty && segment.file_bytes == 0) index_.set_file(id, found.bytes);
    return true;
}

bool TieredStore::is_usable(DiskFiles::Found const& found, SegmentId parent) {
    if (index_.size() >= kSegmentsMax) return false;
    if (found.head.parent == Digest{}) return true;
    if (parent == kNoSegment) return false;
    auto const& above = index_.at(parent);
    return !above.condemned && above.file_bytes > 0 && above.head.kind == SegmentKind::cells &&
           above.head.space == found.head.space && found.head.begin > above.head.begin &&
           found.head.begin <= above.head.end();
}

// Those whose parent is missing cannot be used, and neither can what stands on them.
// Of other processes' files the parent may not have been seen yet: these only count.
void TieredStore::adopt(DiskFiles::Scan scan, Orphans orphans) {
    std::vector<std::pair<std::int64_t, SegmentId>> ages;
    for (auto& found : scan.segments) {
        bool const is_root = found.head.parent == Digest{};
        SegmentId const parent = is_root ? kNoSegment : index_.by_key(found.head.parent);
        if (is_known(found)) continue;
        if (!is_usable(found, parent)) {
            if (orphans == Orphans::count) {
                scan.others.push_back({format_.name_of(found.key), found.bytes, found.modified_ns});
            } else {
                scan.errors += files_->remove(found.key) ? 0 : 1;
            }
            continue;
        }
        SegmentId const id = index_.add(std::move(found.head), found.key, parent);
        index_.set_file(id, found.bytes);
        ages.emplace_back(found.modified_ns, id);
    }
    // Among equals the one that was used last is worth most.
    std::ranges::sort(ages);
    for (std::size_t i = 0; i < ages.size(); ++i)
        index_.at(ages[i].second).worth += static_cast<double>(i) / static_cast<double>(ages.size());
    others_.clear();
    others_bytes_ = 0;
    for (auto& other : scan.others) {
        others_bytes_ += other.bytes;
        others_.push_back(std::move(other));
    }
    stats_.files_bad_total += scan.bad;
    stats_.disk_errors_total += scan.errors;
}

// Other processes write into the folder and remove from it: what they wrote counts,
// and is of use here too; what they removed is gone.
void TieredStore::look_again(std::unique_lock<std::mutex>& lock) {
    bool const due = files_since_look_ >= kLookFiles || bytes_since_look_ >= options_.disk_bytes / kLookPart;
    if (!due) return;
    files_since_look_ = bytes_since_look_ = 0;
    std::unordered_set<std::string> known;
    for (auto const& key : index_.files()) known.insert(format_.name_of(key));
    auto names = known;
    lock.unlock();
    auto scan = files_->scan(4 * kSegmentsMax, std::move(names));
    lock.lock();
    if (!scan) {
        ++stats_.disk_errors_total;
        return;
    }
    if (!scan->gone.empty()) {
        for (auto const& key : index_.files()) {
            if (scan->gone.contains(format_.name_of(key))) index_.condemn(index_.by_key(key));
        }
        remove_files(index_.sweep(), lock);
    }
    adopt(*std::move(scan), Orphans::count);
}

void TieredStore::finish() {
    {
        std::scoped_lock const lock(mutex_);
        if (!stop_by_) stop_by_ = SteadyClock().now() + kGoodbye;
    }
    to_write_.notify_all();
    to_read_.notify_all();
    if (writer_.joinable()) writer_.join();
    if (reader_.joinable()) reader_.join();
}

// --- callers ---

std::uint32_t TieredStore::find(Space const& space, std::span<Token const> text) const {
    std::scoped_lock const lock(mutex_);
    auto const path = index_.find(space, text);
    return path.empty() ? 0 : path.back().end;
}

std::uint32_t TieredStore::find_state(Space const& space, std::span<Token const> text) const {
    std::scoped_lock const lock(mutex_);
    SegmentId const id = index_.find_state(index_.find(space, text));
    return id == kNoSegment ? 0 : index_.at(id).head.begin;
}

bool TieredStore::has_state(Space const& space, std::span<Token const> text) const {
    std::scoped_lock const lock(mutex_);
    auto const path = index_.find(space, text);
    return !path.empty() && path.back().end == text.size() && index_.state_at_end(path) != kNoSegment;
}

void TieredStore::put(Space const& space, std::span<Token const> text, std::uint32_t begin, std::vector<std::byte> blob,
                      Keep keep) {
    HEARTH_ASSERT(begin < text.size() && text.size() - begin <= kSegmentTokensMax, "a segment has some tokens");
    std::scoped_lock const lock(mutex_);
    auto const path = index_.find(space, text);
    if ((path.empty() ? 0 : path.back().end) != begin) return;
    SegmentHead head;
    head.space = space;
    head.begin = begin;
    head.tokens.assign(text.begin() + begin, text.end());
    insert(std::move(head), path.empty() ? kNoSegment : path.back().id, std::move(blob), keep);
}

void TieredStore::put_state(Space const& space, std::span<Token const> text, std::vector<std::byte> blob, Keep keep) {
    std::scoped_lock const lock(mutex_);
    auto const path = index_.find(space, text);
    bool const stands = !path.empty() && path.back().end == text.size();
    if (!stands || index_.state_at_end(path) != kNoSegment) return;
    SegmentHead head;
    head.space = space;
    head.kind = SegmentKind::state;
    head.begin = path.back().end;
    insert(std::move(head), path.back().id, std::move(blob), keep);
}

void TieredStore::insert(SegmentHead head, SegmentId parent, std::vector<std::byte> blob, Keep keep) {
    if (stop_by_ || blob.empty() || blob.size() > kBodyBytesMax - kTagBytes) return;
    if (keep == Keep::until_written && !files_) return;
    if (parent != kNoSegment) index_.pin(parent);
    bool const room = make_memory_room(blob.size());
    if (parent != kNoSegment) index_.unpin(parent);
    if (!room) return;

    if (parent != kNoSegment) head.parent = index_.at(parent).key;
    auto const key = format_.key_of(head);
    if (index_.by_key(key) != kNoSegment) return;  // a condemned one that is still in use
    std::uint64_t const bytes = blob.size();
    SegmentId const id = index_.add(std::move(head), key, parent);
    index_.set_blob(id, std::make_shared<Blob const>(std::move(blob)));
    auto& segment = index_.at(id);
    segment.keep = keep == Keep::while_room && memory_limit_ > 0;
    if (!files_) return;
    segment.dirty = true;
    dirty_.emplace_back(id, bytes);
    dirty_bytes_ += bytes;
    to_write_.notify_one();
}

bool TieredStore::make_memory_room(std::uint64_t bytes) {
    auto const most = std::max(memory_limit_, files_ ? kWriteBufferBytes : 0);
    while (index_.memory_bytes() + bytes > most || index_.size() >= kSegmentsMax) {
        SegmentId const id = index_.pick_blob();
        if (id == kNoSegment) return false;
        index_.drop_blob(id);
    }
    return true;
}

std::shared_ptr<Fetch> TieredStore::fetch(Space const& space, std::span<Token const> text, std::uint32_t from,
                                          Want want) {
    auto fetch = std::make_shared<PendingFetch>();
    std::scoped_lock const lock(mutex_);
    std::uint64_t bytes = 0;
    bool all = !stop_by_;  // after the end nobody reads
    auto const add = [&](SegmentId id, std::uint32_t end) {
        auto& segment = index_.at(id);
        bytes += segment.blob ? segment.blob->size() : segment.file_bytes;
        all = bytes <= kFetchBytesMax && (segment.blob || fetches_.size() < kFetchesMax);
        if (!all) return;
        if (!segment.blob) {
            index_.pin(id);
            fetch->to_read.push_back({id, segment.head, segment.key, segment.file_bytes, fetch->found.size()});
        }
        index_.hit(id);
        fetch->found.push_back({segment.blob, end, !segment.blob, segment.head.kind == SegmentKind::state});
    };
    auto const path = index_.find(space, text);
    for (auto const& [id, end] : path) {
        if (end > from && all) add(id, end);
    }
    SegmentId const state = want == Want::cells ? kNoSegment : index_.state_at_end(path);
    if (all && state != kNoSegment && path.back().end == text.size()) add(state, path.back().end);
    if (fetch->to_read.empty()) {
        fetch->finish();
    } else {
        fetches_.push_back(fetch);
        to_read_.notify_one();
    }
    return fetch;
}

void TieredStore::limit_memory(std::uint64_t bytes) {
    std::scoped_lock const lock(mutex_);
    memory_limit_ = std::min(bytes, options_.memory_bytes);
    while (index_.memory_bytes() > memory_limit_) {
        SegmentId const id = index_.pick_blob();
        if (id == kNoSegment) return;
        index_.drop_blob(id);
    }
}

bool TieredStore::writes() const {
    std::scoped_lock const lock(mutex_);
    return !(refused_ = !takes());
}

bool TieredStore::wait_to_write(Duration at_most) {
    std::unique_lock lock(mutex_);
    return settled_.wait_for(lock, at_most, [this] { return takes() || !files_ || stats_.disk_failing; }) && takes();
}

bool TieredStore::takes() const { return files_ && !stats_.disk_failing && dirty_bytes_ < memory_max_ / 2; }

// Whoever heard that nothing is written hears when that is over.
void TieredStore::tell_if_it_takes_again(std::unique_lock<std::mutex>& lock) {
    if (!refused_ || !takes()) return;
    refused_ = false;
    lock.unlock();
    if (options_.on_ready) options_.on_ready();
    lock.lock();
}

Stats TieredStore::stats() const {
    std::scoped_lock const lock(mutex_);
    Stats stats = stats_;
    stats.memory_bytes = index_.memory_bytes();
    stats.memory_segments = index_.in_memory();
    stats.disk_bytes = index_.disk_bytes() + others_bytes_;
    stats.disk_segments = index_.on_disk();
    return stats;
}

Held TieredStore::held(Space const& space) const {
    std::scoped_lock const lock(mutex_);
    return {index_.bytes_of(space, Tier::memory), index_.bytes_of(space, Tier::disk)};
}

void TieredStore::settle() {
    std::unique_lock lock(mutex_);
    settled_.wait(lock, [this] {
        bool const written = (dirty_.empty() || stats_.disk_failing) && !writing_;
        return written && fetches_.empty() && !reading_;
    });
}

void TieredStore::check_integrity() const {
    std::scoped_lock const lock(mutex_);
    index_.check_integrity();
    HEARTH_ASSERT(index_.memory_bytes() <= memory_max_, "memory is bounded");
}

// --- the writer ---

void TieredStore::write_behind() {
    std::unique_lock lock(mutex_);
    for (;;) {
        auto const job = next_job(lock);
        writing_ = job.has_value();
        if (job) write(*job, lock);
        tell_if_it_takes_again(lock);
        writing_ = false;
        settled_.notify_all();
        auto const now = SteadyClock().now();
        if (stop_by_ && (dirty_.empty() || now >= *stop_by_ || stats_.disk_failing)) return;
        if (dirty_.empty()) {
            to_write_.wait(lock, [this] { return stop_by_ || !dirty_.empty(); });
        } else if (!stop_by_ && stats_.disk_failing && now < disk_pause_end_) {
            to_write_.wait_until(lock, disk_pause_end_, [this] { return stop_by_.has_value(); });
        } else if (!budget_.allows(now)) {
            if (stop_by_) return;
            to_write_.wait_until(lock, budget_.when(now), [this] { return stop_by_.has_value(); });
        }
    }
}

std::optional<TieredStore::Job> TieredStore::next_job(std::unique_lock<std::mutex>& lock) {
    HEARTH_ASSERT(lock.owns_lock(), "the index is guarded");
    auto const now = SteadyClock().now();
    if (!budget_.allows(now) || (stats_.disk_failing && now < disk_pause_end_)) return std::nullopt;
    while (!dirty_.empty()) {
        SegmentId const id = dirty_.front().first;
        Segment* const segment = index_.get(id);
        bool const wanted = segment != nullptr && segment->dirty && segment->blob;
        SegmentId const parent = wanted ? segment->parent : kNoSegment;
        bool const stands = parent == kNoSegment || index_.at(parent).file_bytes > 0;
        if (wanted && stands) return Job{id, segment->head, segment->key, segment->blob, parent};
        if (wanted) segment->dirty = false;  // what it stands on never got to the disk
        pop_dirty();
    }
    return std::nullopt;
}

void TieredStore::write(Job const& job, std::unique_lock<std::mutex>& lock) {
    index_.pin(job.id);
    if (job.parent != kNoSegment) index_.pin(job.parent);
    lock.unlock();
    auto const file = format_.encode(job.head, *job.blob);
    auto const bytes = file.bytes(*job.blob);
    lock.lock();
    look_again(lock);
    bool const room = make_disk_room(bytes, lock);
    Status written = ok();
    if (room) {
        lock.unlock();
        written = files_->write(job.key, file, *job.blob);
        lock.lock();
    }
    index_.unpin(job.id);
    if (job.parent != kNoSegment) index_.unpin(job.parent);
    if (!written) {
        disk_failed(written.error(), lock);
        return;  // it is tried again
    }
    pop_dirty();
    if (room) wrote(job, bytes);
    else index_.at(job.id).dirty = false;
    remove_files(index_.sweep(), lock);
}

void TieredStore::wrote(Job const& job, std::uint64_t bytes) {
    budget_.spend(SteadyClock().now(), bytes);
    ++files_since_look_;
    bytes_since_look_ += bytes;
    ++stats_.files_written_total;
    stats_.bytes_written_total += bytes;
    if (std::exchange(stats_.disk_failing, false)) log(1, "the prefix cache writes to disk again");
    auto& segment = index_.at(job.id);
    index_.set_file(job.id, bytes);
    segment.dirty = false;
    if (!segment.keep && segment.blob && segment.pins == 0) index_.drop_blob(job.id);
}

// Files of others go first: nobody here can read them.
bool TieredStore::make_disk_room(std::uint64_t bytes, std::unique_lock<std::mutex>& lock) {
    if (bytes > options_.disk_bytes) return false;
    while (index_.disk_bytes() + others_bytes_ + bytes > options_.disk_bytes) {
        std::string name;
        if (!others_.empty()) {
            name = others_.front().name;
            others_bytes_ -= others_.front().bytes;
            others_.pop_front();
        } else {
            SegmentId const id = index_.pick_file();
            if (id == kNoSegment) return false;
            name = format_.name_of(index_.at(id).key);
            index_.drop_file(id);
        }
        lock.unlock();
        auto const removed = files_->remove(name);
        lock.lock();
        if (!removed) disk_failed(removed.error(), lock);
    }
    return true;
}

void TieredStore::disk_failed(Error const& error, std::unique_lock<std::mutex>& lock) {
    ++stats_.disk_errors_total;
    disk_pause_end_ = SteadyClock().now() + kDiskPause;
    bool const news = !std::exchange(stats_.disk_failing, true);
    if (!news) return;
    lock.unlock();
    log(2, fmt::format("the prefix cache cannot use its disk and goes on without it: {}", error.message));
    lock.lock();
}

void TieredStore::remove_files(std::vector<Digest> const& keys, std::unique_lock<std::mutex>& lock) {
    for (auto const& key : keys) {
        lock.unlock();
        auto const removed = files_->remove(key);
        lock.lock();
        if (!removed) ++stats_.disk_errors_total;
    }
}

// --- the reader ---

void TieredStore::serve_fetches() {
    std::unique_lock lock(mutex_);
    for (;;) {
        to_read_.wait(lock, [this] { return stop_by_ || !fetches_.empty(); });
        if (stop_by_) {
            for (auto const& fetch : fetches_) fetch->found.clear(), fetch->finish();
            fetches_.clear();
            return;
        }
        auto const fetch = fetches_.front();
        reading_ = true;
        read(*fetch, lock);
        fetches_.pop_front();
        fetch->finish();
        lock.unlock();
        if (options_.on_ready) options_.on_ready();
        lock.lock();
        reading_ = false;
        settled_.notify_all();
    }
}

void TieredStore::read(PendingFetch& fetch, std::unique_lock<std::mutex>& lock) {
    bool good = true;
    for (auto const& part : fetch.to_read) {
        Result<std::vector<std::byte>> blob = Error(Code::cancelled, "what it stands on is bad");
        if (good && !stop_by_) {
            lock.unlock();
            blob = files_->read(part.head, part.key, part.file_bytes);
            if (blob) (void)files_->touch(part.key);  // only the order of eviction after a restart
            lock.lock();
        }
        index_.unpin(part.id);
        if (blob) {
            ++stats_.files_read_total;
            fetch.found[part.piece].blob = std::make_shared<Blob const>(std::move(blob).value());
            continue;
        }
        if (good) {
            good = false;
            fetch.found.resize(part.piece);
            if (stop_by_) continue;
            if (blob.error().code == Code::not_found) {  // another process needed the room
                index_.condemn(part.id);
                continue;
            }
            ++(blob.error().code == Code::corrupt ? stats_.files_bad_total : stats_.disk_errors_total);
            index_.condemn(part.id);
            lock.unlock();
            log(2, fmt::format("a file of the prefix cache is not used: {}", blob.error().message));
            lock.lock();
        }
    }
    if (!good) remove_files(index_.sweep(), lock);
}

}  // namespace

std::unique_ptr<Store> Store::create(Options options) { return std::make_unique<TieredStore>(std::move(options)); }

}  // namespace hearth::kvstore
