#include "models/file_facts.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "digest/sha256.h"

namespace hearth::models {
namespace {

constexpr std::size_t kPieceBytes = 1U << 20;  // hashed between two looks at what else is wanted
constexpr int kNice = 10;                      // models compute on the same cores

// What a file must keep for its facts to hold.
struct Stamp {
    std::uint64_t bytes = 0;
    std::int64_t modified_ns = 0;
    bool operator==(Stamp const&) const = default;
};

Error system_error(std::string const& path) {
    return {errno == ENOENT || errno == ENOTDIR ? Code::not_found : Code::io,
            fmt::format("{}: {}", path, std::strerror(errno)), path};
}

Result<Stamp> stamp_of(std::vector<std::string> const& paths) {
    Stamp stamp;
    for (auto const& path : paths) {
        struct ::stat status{};
        if (::stat(path.c_str(), &status) != 0) return system_error(path);
        stamp.bytes += static_cast<std::uint64_t>(status.st_size);
        stamp.modified_ns = std::max(stamp.modified_ns, std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 +
                                                            std::int64_t{status.st_mtim.tv_nsec});
    }
    return stamp;
}

// Every file of a model, by the names alone; their number is bounded by the name.
std::vector<std::string> split_paths(std::string const& path) {
    auto const name = parse_split_name(path);
    if (!name || name->count <= 1 || name->count > kGgufSplitsMax) return {path};
    std::vector<std::string> paths;
    for (std::uint32_t i = 1; i <= name->count; ++i) paths.push_back(split_path(name->prefix, i, name->count));
    return paths;
}

Error too_many() {
    return {Code::overloaded,
            fmt::format("facts of model files are awaited by too many: the limit is {} callers and {} files",
                        FactsReader::kAsksMax, FactsReader::kKeptMax)};
}

struct Ask {
    std::string path;
    FactsReader::Depth depth{};
    FactsReader::Done done;
};

// Facts of one model, and who waits for their digest.
struct Entry {
    std::string path;
    std::vector<std::string> paths;
    Stamp stamp;
    FactsPointer facts;
    std::vector<FactsReader::Done> waiting;
};

// One digest on its way.
class Hashing {
public:
    explicit Hashing(std::shared_ptr<Entry> entry) : entry_(std::move(entry)), buffer_(kPieceBytes, '\0') {}
    ~Hashing() { close(); }
    Hashing(Hashing const&) = delete;
    Hashing& operator=(Hashing const&) = delete;

    [[nodiscard]] Entry& entry() const { return *entry_; }

    // The digest once the last piece was taken; nothing before.
    Result<std::optional<std::string>> step() {
        if (fd_ < 0) {
            if (next_ == entry_->paths.size()) return finish();
            fd_ = ::open(entry_->paths[next_].c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
            if (fd_ < 0) return system_error(entry_->paths[next_]);
            ++next_;
        }
        auto const got = ::read(fd_, buffer_.data(), buffer_.size());
        if (got < 0 && errno != EINTR) return system_error(entry_->paths[next_ - 1]);
        if (got > 0) hash_.add(std::as_bytes(std::span(buffer_).first(static_cast<std::size_t>(got))));
        if (got == 0) close();
        return std::optional<std::string>();
    }

private:
    Result<std::optional<std::string>> finish() {
        HEARTH_TRY(auto const now, stamp_of(entry_->paths));
        if (now != entry_->stamp)
            return Error(Code::io, fmt::format("{}: it changed while it was read", entry_->path), entry_->path);
        return std::optional(hash_.finish());
    }

    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }

    std::shared_ptr<Entry> entry_;
    std::string buffer_;
    digest::Sha256 hash_;
    std::size_t next_ = 0;  // of entry_->paths
    int fd_ = -1;
};

}  // namespace

class FactsReader::Impl {
public:
    Impl() : thread_([this] { run(); }) {}
    ~Impl() {
        {
            std::lock_guard const lock(mutex_);
            ending_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }
    Impl(Impl const&) = delete;
    Impl& operator=(Impl const&) = delete;

    // False when too many wait.
    bool push(Ask& ask) {
        {
            std::lock_guard const lock(mutex_);
            if (asks_.size() >= kAsksMax) return false;
            asks_.push_back(std::move(ask));
        }
        changed_.notify_one();
        return true;
    }

private:
    void run() {
        // Of this thread alone, as Linux has it; where it is not allowed nothing is lost but politeness.
        static_cast<void>(::setpriority(PRIO_PROCESS, 0, kNice));
        for (;;) {
            std::optional<Ask> ask;
            {
                std::unique_lock lock(mutex_);
                changed_.wait(lock, [this] { return ending_ || !asks_.empty() || !hashing_.empty(); });
                if (ending_) return;
                if (!asks_.empty()) {
                    ask = std::move(asks_.front());
                    asks_.pop_front();
                }
            }
            if (ask) answer(*std::move(ask));
            else hash();
        }
    }

    // --- the reader's thread ---

    void answer(Ask ask) {
        auto const found = look_up(ask.path);
        if (!found) {
            ask.done(found.error());
            return;
        }
        auto& entry = **found;
        if (ask.depth == Depth::header || !entry.facts->digest.empty()) {
            ask.done(entry.facts);
            return;
        }
        bool const full = entry.waiting.empty() ? hashing_.size() >= kKeptMax : entry.waiting.size() >= kAsksMax;
        if (full) {
            ask.done(too_many());
            return;
        }
        if (entry.waiting.empty()) hashing_.push_back(std::make_unique<Hashing>(*found));
        entry.waiting.push_back(std::move(ask.done));
    }

    // As it is on the disk now.
    Result<std::shared_ptr<Entry>> look_up(std::string const& path) {
        auto paths = split_paths(path);
        HEARTH_TRY(auto const stamp, stamp_of(paths));
        auto const kept = std::ranges::find(kept_, path, [](auto const& entry) { return entry->path; });
        if (kept != kept_.end()) {
            if ((*kept)->stamp == stamp) return *kept;
            kept_.erase(kept);
        }
        HEARTH_TRY(auto files, read_gguf_model(path));
        auto facts = std::make_shared<FileFacts>();
        facts->bytes = stamp.bytes;
        facts->modified_ns = stamp.modified_ns;
        facts->report = describe_model(files);
        facts->files = std::move(files);
        auto entry = std::make_shared<Entry>(Entry{path, std::move(paths), stamp, std::move(facts), {}});
        kept_.push_back(entry);
        if (kept_.size() > kKeptMax) kept_.pop_front();
        return entry;
    }

    void hash() {
        auto& work = *hashing_.front();
        auto digest = work.step();
        if (digest && !*digest) return;
        auto& entry = work.entry();
        auto const waiting = std::exchange(entry.waiting, {});
        Result<FactsPointer> answer = entry.facts;
        if (digest) {
            auto facts = std::make_shared<FileFacts>(*entry.facts);
            facts->digest = **std::move(digest);
            answer = entry.facts = std::move(facts);
        } else {
            answer = digest.error();
        }
        for (auto const& done : waiting) done(answer);
        hashing_.pop_front();
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Ask> asks_;  // under mutex_
    bool ending_ = false;   // under mutex_

    std::deque<std::shared_ptr<Entry>> kept_;         // the reader's thread alone: the longest kept first
    std::deque<std::unique_ptr<Hashing>> hashing_;    // likewise: one for each entry that has waiting callers

    std::thread thread_;  // last: it uses all of the above
};

FactsReader::FactsReader() : impl_(std::make_unique<Impl>()) {}
FactsReader::~FactsReader() = default;

void FactsReader::read(std::string path, Depth depth, Done done) {
    Ask ask{std::move(path), depth, std::move(done)};
    if (impl_->push(ask)) return;
    ask.done(too_many());
}

}  // namespace hearth::models
