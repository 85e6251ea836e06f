#include "fetch/sources/leftovers.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "fetch/folder_lock.h"
#include "fetch/partial_file.h"

namespace hearth::fetch {
namespace {

namespace fs = std::filesystem;
using std::chrono::system_clock;

constexpr std::string_view kPartial = ".partial", kState = ".state";
// Of notes, and of the state of a download.
constexpr std::array<std::string_view, 2> kNew{".hearth.json.new", ".partial.state.new"};

// A model or an adapter that was to get its name: NAME.gguf.new, NAME.lora-N.new.
bool is_arrival(std::string_view name) {
    constexpr std::string_view kEnding = ".new", kAdapter = ".lora-";
    if (!name.ends_with(kEnding)) return false;
    name.remove_suffix(kEnding.size());
    if (name.ends_with(".gguf")) return true;
    auto const adapter = name.rfind(kAdapter);
    if (adapter == std::string_view::npos) return false;
    auto const number = name.substr(adapter + kAdapter.size());
    return !number.empty() && std::ranges::all_of(number, [](char c) { return c >= '0' && c <= '9'; });
}

class Sweep {
public:
    Sweep(std::set<std::string> const& owned, system_clock::time_point now) : owned_(owned), now_(now) {}

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
        for (auto const ending : kNew)
            if (name.ends_with(ending) && is_older(path, kNewKept)) return remove(path, name);
        if (is_arrival(name)) return remove_arrival(path, name);
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

    void remove_arrival(fs::path const& path, std::string const& name) {
        if (!is_older(path, kNewKept, Since::named)) return;
        auto const alone = FolderLock::take(path.parent_path().string(), std::chrono::milliseconds(0));
        // Whoever held it until now may have begun anew.
        if (alone && is_older(path, kNewKept, Since::named)) remove(path, name);
    }

    void remove(fs::path const& path, std::string const& name) {
        std::error_code failed;
        if (fs::remove(path, failed) && !failed) gone_.push_back(name);
    }

    std::set<std::string> const& owned_;
    system_clock::time_point const now_;
    std::size_t seen_ = 0;
    std::vector<std::string> gone_;
};

}  // namespace

std::vector<std::string> sweep_leftovers(std::string const& folder, std::set<std::string> const& owned,
                                         system_clock::time_point now) {
    Sweep sweep(owned, now);
    sweep.look_into(folder, "", kLeftoverFolders);
    return sweep.take();
}

}  // namespace hearth::fetch
