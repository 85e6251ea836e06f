// What model files hold, told by all of their bytes: the key of what may be read back by another process
// only if it has the same model. Computed on a thread of its own while the model is loaded, which takes
// longer: of the pages that it reads, loading and the first prompt find all in memory.
//
// Private to llama.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"

namespace hearth::llama {

// XXH3, 128 bits, of the whole file as 32 hex digits. Fails with `io`, or `cancelled` once `stop` is set.
[[nodiscard]] Result<std::string> hash_file(std::string const& path, std::atomic<bool> const* stop = nullptr);

class ContentHash {
public:
    // Begins with the first of the files.
    explicit ContentHash(std::vector<std::string> paths);
    // Stops if nobody waits for it.
    ~ContentHash();
    ContentHash(ContentHash const&) = delete;
    ContentHash& operator=(ContentHash const&) = delete;

    // Waits for all of them: their hashes, each behind a space. Empty if one cannot be read. Once.
    [[nodiscard]] std::string take();

private:
    std::vector<std::string> paths_;
    std::atomic<bool> stop_ = false;
    std::string hashes_;  // the thread's until it has ended
    std::thread thread_;
};

}  // namespace hearth::llama
