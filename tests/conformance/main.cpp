// hearth_conformance [--update] FILE|FOLDER...
//
// Plays every .case file against a server in this process. Exits with 1 if one
// fails, and at once if one does not end: every step of a case is bounded, so
// the server itself cannot be stopped then. --update rewrites the expectations
// that failed; review the diff.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "case_file.h"
#include "player.h"

namespace {

namespace fs = std::filesystem;
using namespace hearth::conformance;

std::vector<fs::path> collect(std::vector<fs::path> const& given) {
    std::vector<fs::path> cases;
    for (auto const& path : given) {
        if (!fs::is_directory(path)) {
            cases.push_back(path);
            continue;
        }
        for (auto const& entry : fs::recursive_directory_iterator(path))
            if (entry.path().extension() == ".case") cases.push_back(entry.path());
    }
    std::ranges::sort(cases);
    return cases;
}

// Ends the process if it is not destroyed in time.
class Watchdog {
public:
    explicit Watchdog(fs::path const& path)
        : thread_([this, path] {
              std::unique_lock lock(mutex_);
              if (ended_.wait_for(lock, kCaseMax, [this] { return over_; })) return;
              std::fprintf(stderr, "%s: not over after %lld s, giving up\n", path.c_str(),
                           static_cast<long long>(kCaseMax.count()));
              std::_Exit(1);
          }) {}
    ~Watchdog() {
        {
            std::lock_guard const lock(mutex_);
            over_ = true;
        }
        ended_.notify_all();
        thread_.join();
    }
    Watchdog(Watchdog const&) = delete;
    Watchdog& operator=(Watchdog const&) = delete;

private:
    static constexpr std::chrono::seconds kCaseMax{60};

    std::mutex mutex_;
    std::condition_variable ended_;
    bool over_ = false;  // under mutex_
    std::thread thread_;  // last: it uses all of the above
};

// True if it passed.
bool play(fs::path const& path, bool update, std::size_t& exchanges) {
    Watchdog const watchdog(path);
    try {
        auto const file = CaseFile::read(path);
        auto const outcome = Player(file).play();
        exchanges += file.exchanges.size();
        for (auto const& failure : outcome.failures) std::fprintf(stderr, "%s\n", failure.c_str());
        if (update && !outcome.expectations.empty())
            std::ofstream(path, std::ios::binary) << file.rewritten(outcome.expectations);
        return outcome.failures.empty();
    } catch (std::exception const& failure) {
        std::fprintf(stderr, "%s: %s\n", path.c_str(), failure.what());
        return false;
    }
}

}  // namespace

int main(int argc, char** argv) {
    bool update = false;
    std::vector<fs::path> given;
    for (int i = 1; i < argc; ++i) {
        if (std::string_view(argv[i]) == "--update") update = true;
        else given.emplace_back(argv[i]);
    }
    auto const cases = collect(given);
    if (cases.empty()) {
        std::fprintf(stderr, "usage: hearth_conformance [--update] FILE|FOLDER...; no .case file was found\n");
        return 2;
    }
    std::size_t failed = 0;
    std::size_t exchanges = 0;
    for (auto const& path : cases)
        if (!play(path, update, exchanges)) ++failed;
    std::fprintf(stderr, "%zu cases, %zu exchanges, %zu cases failed\n", cases.size(), exchanges, failed);
    return failed > 0 ? 1 : 0;
}
