// WeightPages: the memory a loaded model's weights take, given back and taken again.
//
// Weights that are computed with as the file has them are its pages, mapped: given
// back they stay with the system as long as it likes, and return when they are
// touched. Weights that upstream packed for a kernel are memory of their own: they
// are packed again from the file, which is held open for that.
//
// What else a model keeps stays: its vocabulary, and tensors upstream copied as they are.
//
// Threads: one, while nothing computes with the model. Private to the module.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "llama/upstream.h"

namespace hearth::llama {

class WeightPages {
public:
    // Holds the files open. To be called before the model is loaded from them, in the order of their splits.
    [[nodiscard]] static WeightPages open(std::vector<std::string> const& paths);

    WeightPages();
    ~WeightPages();
    WeightPages(WeightPages&&) noexcept;
    WeightPages& operator=(WeightPages&&) noexcept;

    // Finds the weights of the model that was loaded, which must outlive this, and gives back the pages that they
    // were packed from. Once.
    void attach(llama_model const& model);

    // Weights that are pages of the files.
    [[nodiscard]] std::uint64_t shared_bytes() const { return shared_bytes_; }

    // Tensors upstream packed.
    [[nodiscard]] std::size_t packed() const;

    // Whether what give_back() gives can be had again; reads the files' headers if anything was packed.
    // Fails with `unsupported` where it cannot.
    [[nodiscard]] Status check();

    // REQUIRES: check() passed
    void give_back();

    // Packs on that many threads. Fails with `corrupt` when a file is not what it was, `overloaded` when it cannot be
    // mapped.
    [[nodiscard]] Status take_again(std::uint32_t threads);

private:
    struct File;
    struct Packed;

    [[nodiscard]] Status find_packed();
    void drop_unused(std::vector<std::span<std::byte>> used) const;

    std::vector<File> files_;
    std::vector<std::span<std::byte>> mapped_;  // what of the files upstream mapped
    std::vector<std::span<std::byte>> memory_;  // of packed weights
    std::vector<Packed> packed_;
    std::uint64_t shared_bytes_ = 0;
    bool found_ = false;  // where in the files the packed weights lie
};

}  // namespace hearth::llama
