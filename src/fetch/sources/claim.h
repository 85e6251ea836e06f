// Claim: a model's name in a folder belongs to one source for as long as a pull of it takes.
//
// The note of a model says whose its files are. A pull writes it before there is any file, and
// holds the note's file (flock, shared) until it ends: so one from another source tells files that
// are on their way from what somebody gave up. Pulls of one source hold it together.
//
// Threads: none; blocks on the disk and waits for nobody. Errors: of the disk; `invalid_argument`
// for a name whose files another source is bringing. On file systems without such locks nobody
// is seen to bring anything. Private to fetch.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "fetch/sources/note.h"
#include "fetch/sources/plan.h"

namespace hearth::fetch {

class Claim {
public:
    // Whose name it is, and what that means for the files of `plan`. Where nothing of them lies there and nobody
    // brings them they are this source's from now on: the note says so.
    // REQUIRES: a FolderLock of `folder`
    [[nodiscard]] static Result<Claim> take(std::string const& folder, Plan const& plan);
    ~Claim();
    Claim(Claim&& other) noexcept;
    Claim& operator=(Claim&&) = delete;

    // What is noted of the files, which are this source's to replace. None: others' lie there, and stay.
    [[nodiscard]] std::optional<Note> const& known() const { return known_; }

    // Nothing came, so nothing is to be gone on with: a note that was written by take() goes, unless there is a file
    // to go on with or another pull of the same source is at it.
    void give_up(Plan const& plan);

private:
    Claim(std::string folder, std::string model) : folder_(std::move(folder)), model_(std::move(model)) {}
    [[nodiscard]] bool is_alone() const;

    std::string folder_, model_;
    std::optional<Note> known_;
    bool began_ = false;  // the note was not there before
    int fd_ = -1;  // of the note
};

// Whether some pull holds the note of that model now.
[[nodiscard]] bool is_claimed(std::string const& folder, std::string const& model);

// What is known before anything came.
[[nodiscard]] Note note_of(Plan const& plan);

}  // namespace hearth::fetch
