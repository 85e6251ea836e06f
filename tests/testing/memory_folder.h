// MemoryFolder: a folder that can be told to fail.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kvstore/folder.h"

namespace hearth::kvstore::testing {

class MemoryFolder final : public Folder {
public:
    enum class Failure : std::uint8_t { once, from_then_on };

    // The operation of that number (from 0) fails; a write leaves the first half.
    void fail_at(std::uint64_t operation, Failure failure) {
        std::scoped_lock const lock(mutex_);
        fail_at_ = operation;
        failure_ = failure;
        operations_ = 0;
    }
    [[nodiscard]] std::uint64_t operations() const {
        std::scoped_lock const lock(mutex_);
        return operations_;
    }
    [[nodiscard]] std::map<std::string, std::vector<std::byte>> files() const {
        std::scoped_lock const lock(mutex_);
        return files_;
    }
    void set(std::string const& name, std::vector<std::byte> bytes) {
        std::scoped_lock const lock(mutex_);
        files_[name] = std::move(bytes);
        times_[name] = ++time_;
    }
    [[nodiscard]] std::uint64_t bytes() const {
        std::scoped_lock const lock(mutex_);
        std::uint64_t sum = 0;
        for (auto const& [name, bytes] : files_) sum += bytes.size();
        return sum;
    }
    [[nodiscard]] std::uint64_t bytes_most() const {
        std::scoped_lock const lock(mutex_);
        return bytes_most_;
    }

    Result<std::vector<File>> list(std::size_t files_max) override {
        std::scoped_lock const lock(mutex_);
        HEARTH_CHECK(pass());
        std::vector<File> out;
        for (auto const& [name, bytes] : files_) {
            if (out.size() < files_max) out.push_back({name, bytes.size(), times_[name]});
        }
        return out;
    }
    Status read(std::string const& name, std::uint64_t offset, std::span<std::byte> out) override {
        std::scoped_lock const lock(mutex_);
        HEARTH_CHECK(pass());
        auto const found = files_.find(name);
        if (found == files_.end()) return Error(Code::not_found, "no such file");
        if (offset + out.size() > found->second.size()) return Error(Code::corrupt, "the file ends early");
        std::copy_n(found->second.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
        return ok();
    }
    Status write(std::string const& name, std::span<std::span<std::byte const> const> parts) override {
        std::scoped_lock const lock(mutex_);
        auto const passed = pass();
        std::vector<std::byte> bytes;
        for (auto const part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
        if (!passed) bytes.resize(bytes.size() / 2);
        files_[name] = std::move(bytes);
        times_[name] = ++time_;
        std::uint64_t sum = 0;
        for (auto const& [other, content] : files_) sum += content.size();
        bytes_most_ = std::max(bytes_most_, sum);
        return passed;
    }
    Status rename(std::string const& from, std::string const& to) override {
        std::scoped_lock const lock(mutex_);
        HEARTH_CHECK(pass());
        auto moved = files_.extract(from);
        if (moved.empty()) return Error(Code::not_found, "no such file");
        times_[to] = times_[from];
        files_[to] = std::move(moved.mapped());
        return ok();
    }
    Status remove(std::string const& name) override {
        std::scoped_lock const lock(mutex_);
        HEARTH_CHECK(pass());
        if (files_.erase(name) == 0) return Error(Code::not_found, "no such file");
        return ok();
    }
    Status touch(std::string const& name) override {
        std::scoped_lock const lock(mutex_);
        HEARTH_CHECK(pass());
        times_[name] = ++time_;
        return ok();
    }

private:
    Status pass() {
        std::uint64_t const at = operations_++;
        bool const fails = at == fail_at_ || (failure_ == Failure::from_then_on && at > fail_at_);
        if (fails) return Error(Code::io, "No space left on device");
        return ok();
    }

    mutable std::mutex mutex_;
    std::map<std::string, std::vector<std::byte>> files_;
    std::map<std::string, std::int64_t> times_;
    std::int64_t time_ = 0;
    std::uint64_t operations_ = 0;
    std::uint64_t fail_at_ = ~std::uint64_t{0};
    Failure failure_ = Failure::once;
    std::uint64_t bytes_most_ = 0;
};

}  // namespace hearth::kvstore::testing
