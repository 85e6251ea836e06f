#include "fetch/sources/claim.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "fetch/folder_lock.h"
#include "fetch/partial_file.h"

namespace hearth::fetch {
namespace {

int open_note(std::string const& folder, std::string const& model) {
    return ::open(note_path(folder, model).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

bool is_there(std::string const& path) {
    std::error_code failed;
    return std::filesystem::exists(path, failed);
}

}  // namespace

Result<Claim> Claim::take(std::string const& folder, Plan const& plan) {
    Claim claim(folder, plan.model);
    claim.known_ = read_note(folder, plan.model);
    if (claim.known_ && claim.known_->source != plan.source) {
        if (is_claimed(folder, plan.model))
            return Error(Code::invalid_argument,
                         fmt::format("'{}' is being fetched from {} at this moment; wait for that, or give this one "
                                     "another name",
                                     plan.model, claim.known_->source),
                         "name");
        claim.known_.reset();
    }
    // A file that is held is another one's, who noted nothing: a copy of a local file on its way.
    auto const is_taken = [&](PlannedFile const& file) {
        auto const path = folder + "/" + file.name;
        return is_there(path) || PartialFile::is_held(path);
    };
    if (!claim.known_ && std::ranges::none_of(plan.files, is_taken)) {
        claim.known_ = note_of(plan);
        claim.began_ = true;
        HEARTH_CHECK(write_note(folder, plan.model, *claim.known_));
    }
    claim.fd_ = open_note(folder, plan.model);
    if (claim.fd_ >= 0) static_cast<void>(::flock(claim.fd_, LOCK_SH | LOCK_NB));
    return claim;
}

Claim::Claim(Claim&& other) noexcept
    : folder_(std::move(other.folder_)),
      model_(std::move(other.model_)),
      known_(std::move(other.known_)),
      began_(other.began_),
      fd_(std::exchange(other.fd_, -1)) {}

// And with the descriptor goes the lock.
Claim::~Claim() {
    if (fd_ >= 0) ::close(fd_);
}

// The note is still the one that was claimed, and nobody else claims it. Gives up the own claim.
bool Claim::is_alone() const {
    struct stat claimed{}, named{};
    bool const same = fd_ >= 0 && ::fstat(fd_, &claimed) == 0 &&
                      ::lstat(note_path(folder_, model_).c_str(), &named) == 0 && claimed.st_ino == named.st_ino &&
                      claimed.st_dev == named.st_dev;
    return same && ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
}

void Claim::give_up(Plan const& plan) {
    auto const is_left = [&](PlannedFile const& file) {
        auto const path = folder_ + "/" + file.name;
        return is_there(path) || is_there(path + ".partial");
    };
    if (!began_ || std::ranges::any_of(plan.files, is_left)) return;
    // A note that stays says of nothing whose it is, and is in nobody's way.
    auto const alone = FolderLock::take(folder_, std::chrono::milliseconds(0));
    if (alone && is_alone()) remove_note(folder_, model_);
}

bool is_claimed(std::string const& folder, std::string const& model) {
    int const fd = open_note(folder, model);
    if (fd < 0) return false;
    bool const claimed = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(fd);
    return claimed;
}

Note note_of(Plan const& plan) {
    Note note{plan.source, plan.revision, {}, plan.notes};
    for (auto const& file : plan.files)
        if (file.adapter) note.adapters.push_back(file.name);
    return note;
}

}  // namespace hearth::fetch
