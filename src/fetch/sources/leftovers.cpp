#include "fetch/sources/leftovers.h"

#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "fetch/folder_lock.h"
#include "fetch/partial_file.h"
#include "fetch/whole_file.h"

namespace hearth::fetch {
namespace {

namespace fs = std::filesystem;
using std::chrono::system_clock;

constexpr std::string_view kPartial = ".partial", kState = ".state";
constexpr std::uint32_t kZfsMagic = 0x2fc12fc1;  // which <linux/magic.h> does not know
constexpr std::string_view kNew = ".new";
// Of notes, and of the state of a download: none but write_whole() makes such files.
constexpr std::array<std::string_view, 2> kWhole{".hearth.json.new", ".partial.state.new"};

// NAME.lora-N.new: an adapter that was to get its name. Nobody else calls files so.
bool is_adapter(std::string_view name) {
    constexpr std::string_view kAdapter = ".lora-";
    if (!name.ends_with(kNew)) return false;
    name.remove_suffix(kNew.size());
    auto const adapter = name.rfind(kAdapter);
    if (adapter == std::string_view::npos) return false;
    auto const number = name.substr(adapter + kAdapter.size());
    return !number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
}

// NAME.gguf.new: a model that was to get its name, or a file of whoever calls files so.
bool is_model(std::string_view name) {
    return name.ends_with(kNew) && name.substr(0, name.size() - kNew.size()).ends_with(".gguf");
}

// Whether the locks of this folder are those of all who may be at its files. Of file systems that are not known
// here, such as a network's, another machine's processes may have none that is seen.
bool is_of_this_machine(std::string const& folder) {
    constexpr std::array<std::uint32_t, 7> kLocal{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,  BTRFS_SUPER_MAGIC,
                                                  TMPFS_MAGIC,      F2FS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC,
                                                  kZfsMagic};
    struct statfs info{};
    return ::statfs(folder.c_str(), &info) == 0 &&
           std::ranges::find(kLocal, static_cast<std::uint32_t>(info.f_type)) != kLocal.end();
}

class Sweep {
public:
    Sweep(std::set<std::string> const& owned, system_clock::time_point now, bool locks_tell)
        : owned_(owned), now_(now), locks_tell_(locks_tell) {}

    // `prefix`: of names below the models folder. `deeper`: how many folders more.
    void look_into(fs::path const& folder, std::string const& prefix, int deeper) {
        std::vector<fs::path> folders;
        std::error_code failed;
        for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
            if (++seen_ > kLeftoversSeen) return;
            auto const name = it->path().filename().string();
            std::error_code unknown;
            if (deeper > 0 && it->is_directory(unknown) && !it->is_symlink(unknown)) folders.push_back(it->path());
            else look_at(it->path(), prefix + name);
        }
        for (auto const& each : folders) look_into(each, prefix + each.filename().string() + "/", deeper - 1);
    }

    [[nodiscard]] std::vector<std::string> take() { return std::move(gone_); }

private:
    void look_at(fs::path const& path, std::string const& name) {
        for (auto const ending : kWhole)
            if (name.ends_with(ending)) return remove_written(path, name);
        if (is_adapter(name) || is_model(name)) return remove_arrival(path, name);
        if (!name.ends_with(kPartial) || !is_older(path, kPartialKept)) return;
        auto const whole = name.substr(0, name.size() - kPartial.size());
        auto const file = path.string().substr(0, path.string().size() - kPartial.size());
        if (is_owned(whole)) return;
        auto const mine = PartialFile::open_existing(file);
        // Whoever held it until now may have gone on with it.
        if (!mine || !is_older(path, kPartialKept)) return;
        std::error_code unknown;
        bool const has_state = fs::exists(path.string() + std::string(kState), unknown);
        (*mine)->discard();
        if (fs::exists(path, unknown)) return;
        gone_.push_back(name);
        if (has_state) gone_.push_back(name + std::string(kState));
    }

    [[nodiscard]] bool is_owned(std::string const& name) const {
        auto const slash = name.find('/');
        if (slash == std::string::npos) return owned_.contains(name);
        auto const folder = name.substr(0, slash + 1);
        auto const first = owned_.lower_bound(folder);
        return first != owned_.end() && first->starts_with(folder);
    }

    // Since it was written, or since it got a name: a link was written when what it is a link of was.
    enum class Since : std::uint8_t { written, named };

    // Of regular files alone: links and folders are nobody's leftovers.
    [[nodiscard]] bool is_older(fs::path const& path, std::chrono::hours age, Since since = Since::written) const {
        struct stat info{};
        if (::lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
        auto const from = since == Since::written ? info.st_mtim.tv_sec : info.st_ctim.tv_sec;
        return now_ - system_clock::from_time_t(from) > age;
    }

    void remove_written(fs::path const& path, std::string const& name) {
        if (!locks_tell_ && !is_older(path, kNewKept)) return;
        auto const whole = path.string().substr(0, path.string().size() - kNew.size());
        if (remove_unfinished(whole)) gone_.push_back(name);
    }

    void remove_arrival(fs::path const& path, std::string const& name) {
        // One process at a time puts adapters there, and holds the lock until they have their names.
        auto const due = [&](bool alone) {
            auto const age = alone && locks_tell_ && is_adapter(name) ? std::chrono::hours(-1) : kNewKept;
            return is_older(path, age, Since::named);
        };
        if (!due(true)) return;
        auto const alone = FolderLock::take(path.parent_path().string(), std::chrono::milliseconds(0));
        // Whoever held it until now may have begun anew.
        if (alone && due(alone->excludes())) remove(path, name);
    }

    void remove(fs::path const& path, std::string const& name) {
        std::error_code failed;
        if (fs::remove(path, failed) && !failed) gone_.push_back(name);
    }

    std::set<std::string> const& owned_;
    system_clock::time_point const now_;
    bool const locks_tell_;
    std::size_t seen_ = 0;
    std::vector<std::string> gone_;
};

}  // namespace

std::vector<std::string> sweep_leftovers(std::string const& folder, std::set<std::string> const& owned,
                                         system_clock::time_point now) {
    Sweep sweep(owned, now, is_of_this_machine(folder));
    sweep.look_into(folder, "", kLeftoverFolders);
    return sweep.take();
}

}  // namespace hearth::fetch
