#include "formats/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fmt/format.h>

#include "digest/sha256.h"
#include "formats/source.h"
#include "formats/source_digest.h"

namespace hearth::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEntryFormat = "hearth-quantised-1";
constexpr std::size_t kPiece = std::size_t{4} << 20;
constexpr std::size_t kFilesMax = 100'000;   // of the folder that are looked at
constexpr std::size_t kSourcesMax = 1024;    // whose digests are remembered
constexpr auto kLockEvery = std::chrono::milliseconds(50);
constexpr int kLockTries = 100;  // at a lock whose file another process removes

Error io_error(std::string const& path, std::string_view what) {
    return Error(Code::io, fmt::format("{}: {}: {}", path, what, std::strerror(errno)), path);
}

struct OpenFile {
    explicit OpenFile(int descriptor) : fd(descriptor) {}
    ~OpenFile() { ::close(fd); }
    OpenFile(OpenFile const&) = delete;
    OpenFile& operator=(OpenFile const&) = delete;

    int const fd;
};

// An open file that has a lock, until the last copy goes.
using Locked = std::shared_ptr<void>;

Locked hold(int fd) { return std::make_shared<OpenFile>(fd); }

bool is_named(int fd, std::string const& path) {
    struct ::stat open{};
    struct ::stat named{};
    return ::fstat(fd, &open) == 0 && ::stat(path.c_str(), &named) == 0 && open.st_ino == named.st_ino &&
           open.st_dev == named.st_dev;
}

// The right to make, judge or remove a key's files. Null if another has it.
Result<Locked> try_lock(std::string const& path) {
    for (int i = 0; i < kLockTries; ++i) {
        int const fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) return io_error(path, "cannot be opened");
        auto locked = hold(fd);
        if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return Locked();
        if (is_named(fd, path)) return locked;
    }
    return Error(Code::io, fmt::format("{}: is removed as often as it is locked, {} times", path, kLockTries), path);
}

Result<Locked> lock(std::string const& path, Progress const& progress, Watch const& watch) {
    for (;;) {
        HEARTH_TRY(auto locked, try_lock(path));
        if (locked) return locked;
        if (watch && !watch(progress)) return Error(Code::cancelled, "waiting for another process was stopped");
        std::this_thread::sleep_for(kLockEvery);
    }
}

Result<std::string> checksum(int fd, std::string const& path) {
    std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> const state(XXH3_createState(), &XXH3_freeState);
    XXH3_128bits_reset(state.get());
    std::vector<char> piece(kPiece);
    ::off_t offset = 0;
    for (;;) {
        auto const count = ::pread(fd, piece.data(), piece.size(), offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return io_error(path, "cannot be read");
        if (count == 0) break;
        XXH3_128bits_update(state.get(), piece.data(), static_cast<std::size_t>(count));
        offset += count;
    }
    auto const sum = XXH3_128bits_digest(state.get());
    return fmt::format("{:016x}{:016x}", sum.high64, sum.low64);
}

struct EntryText {
    std::uint64_t bytes = 0;
    std::string checksum;
};

std::optional<EntryText> read_entry(std::string const& path) {
    std::ifstream file(path);
    std::string format;
    EntryText entry;
    file >> format >> entry.bytes >> entry.checksum;
    if (!file || format != kEntryFormat) return std::nullopt;
    return entry;
}

// The model, held, if it is whole; nothing if it is not there or not what its entry says.
Locked open_whole(std::string const& model, std::string const& entry_path) {
    auto const entry = read_entry(entry_path);
    int const fd = entry ? ::open(model.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
    if (fd < 0) return {};
    auto held = hold(fd);
    struct ::stat info{};
    bool const fits = ::flock(fd, LOCK_SH | LOCK_NB) == 0 && ::fstat(fd, &info) == 0 &&
                      static_cast<std::uint64_t>(info.st_size) == entry->bytes;
    if (!fits) return {};
    auto const sum = checksum(fd, model);
    return sum && *sum == entry->checksum ? held : Locked();
}

struct Kept {
    std::string key;
    std::uint64_t bytes = 0;
    fs::file_time_type used;
};

}  // namespace

std::string QuantCache::path(std::string const& key, std::string_view ending) const {
    return fmt::format("{}/{}{}", options_.folder, key, ending);
}

Result<QuantCache::Entry> QuantCache::provide(std::string const& source, Form const& form, Workshop const& workshop,
                                              Watch const& watch) const {
    std::error_code failed;
    fs::create_directories(options_.folder, failed);
    if (failed) {
        return Error(Code::io, fmt::format("{}: cannot be made: {}", options_.folder, failed.message()),
                     options_.folder);
    }
    fs::permissions(options_.folder, fs::perms::owner_all, failed);
    // What it will begin with.
    Progress const progress{.stage = is_folder(source) ? Stage::converting : Stage::quantizing};
    HEARTH_TRY(auto const digest, source_digest(source, options_.folder, [&] { return watch && !watch(progress); }));
    auto const key =
        digest::sha256_hex(fmt::format("{}\n{}\n{}\n{}\n", digest, form.type, options_.quantizer, kConversionVersion));
    HEARTH_TRY(auto const locked, lock(path(key, ".lock"), progress, watch));
    if (auto held = open_whole(path(key, ".gguf"), path(key, ".entry"))) {
        ::utimensat(AT_FDCWD, path(key, ".entry").c_str(), nullptr, 0);  // used now
        return Entry{path(key, ".gguf"), false, std::move(held)};
    }
    return make_entry(key, source, form, workshop, watch);
}

Result<QuantCache::Entry> QuantCache::make_entry(std::string const& key, std::string const& source, Form const& form,
                                                 Workshop const& workshop, Watch const& watch) const {
    auto const model = path(key, ".gguf");
    ::unlink(path(key, ".entry").c_str());
    Order order{.source = source, .output = model, .form = form, .existing = Existing::replace, .mode = 0600};
    HEARTH_TRY(auto const made, make(order, workshop, watch));
    if (made.file_bytes > options_.bytes_max) {
        ::unlink(model.c_str());
        return Error(Code::too_large,
                     fmt::format("{} takes {} bytes as {}, the cache of such models may hold {} (--quant-cache-size)",
                                 source, made.file_bytes, made.type, options_.bytes_max),
                     "--quant-cache-size");
    }
    int const fd = ::open(model.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return io_error(model, "cannot be opened");
    auto held = hold(fd);
    if (::flock(fd, LOCK_SH | LOCK_NB) != 0) return io_error(model, "cannot be locked");
    HEARTH_TRY(auto const sum, checksum(fd, model));
    HEARTH_CHECK(write_small_file(path(key, ".entry"), fmt::format("{} {} {}\n", kEntryFormat, made.file_bytes, sum)));
    trim(key);
    return Entry{model, true, std::move(held)};
}

// Best effort: what cannot be looked at or locked stays, and is counted.
void QuantCache::trim(std::string const& kept) const {
    std::vector<Kept> models;
    std::vector<std::pair<fs::file_time_type, fs::path>> sources;
    std::uint64_t total = 0;
    std::error_code failed;
    std::size_t seen = 0;
    for (fs::directory_iterator entry(options_.folder, failed), end; !failed && entry != end && seen < kFilesMax;
         entry.increment(failed), ++seen) {
        std::error_code gone;
        auto const ending = entry->path().extension();
        if (ending == ".source") sources.emplace_back(entry->last_write_time(gone), entry->path());
        if (ending != ".gguf") continue;
        auto const key = entry->path().stem().string();
        auto const bytes = entry->file_size(gone);
        if (gone) continue;
        total += bytes;
        // One without entry was left by a crash: the oldest of all.
        auto const used = fs::last_write_time(path(key, ".entry"), gone);
        models.push_back({key, bytes, gone ? fs::file_time_type::min() : used});
    }
    std::ranges::sort(models, {}, &Kept::used);
    for (auto const& model : models) {
        if (total <= options_.bytes_max) break;
        if (model.key == kept) continue;
        auto const locked = try_lock(path(model.key, ".lock"));
        if (!locked || !*locked) continue;
        int const fd = ::open(path(model.key, ".gguf").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) {
            for (auto const* ending : {".entry", ".gguf", ".lock"}) ::unlink(path(model.key, ending).c_str());
            total -= model.bytes;
        }
        if (fd >= 0) ::close(fd);
    }
    std::ranges::sort(sources);
    for (std::size_t i = 0; i + kSourcesMax < sources.size(); ++i) fs::remove(sources[i].second, failed);
}

}  // namespace hearth::formats
