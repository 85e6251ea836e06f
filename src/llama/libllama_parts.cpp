// Parts of sequences: what goes to other tiers and comes back.
//
// Upstream saves and reads whole sequences only, so a spare one shares the cells of
// the part, or receives them. A blob is a list of such images, each behind its length:
// one, or, where there is a window, as many as it takes for no position of an image
// to lie outside the window of its last one, because upstream leaves those out.
// Of models that have a state besides, the image is cut before it: the state is
// checkpoint()'s.
#include <algorithm>
#include <cstring>
#include <exception>

#include <fmt/format.h>

#include "base/assert.h"
#include "llama/libllama_impl.h"
#include "llama/runtime.h"

namespace hearth::llama {
namespace {

// Upstream's magic and sequence id.
constexpr std::size_t kImageHeaderBytes = 8;

std::uint32_t index_of(SequenceId sequence) { return static_cast<std::uint32_t>(sequence); }

std::vector<std::byte> image_of(llama_context* context, SequenceId sequence, std::uint32_t flags) {
    std::vector<std::byte> image(llama_state_seq_get_size_ext(context, sequence, flags));
    auto const written = llama_state_seq_get_data_ext(context, reinterpret_cast<std::uint8_t*>(image.data()),
                                                      image.size(), sequence, flags);
    image.resize(std::min(written, image.size()));
    return image;
}

}  // namespace

// The state of a sequence that has none is what an image that was cut before it
// takes to be read. False: images of this model cannot be cut like that.
bool LibllamaBackend::learn_no_state() {
    try {
        auto const all = image_of(parts_.context.get(), spare(), 0);
        auto const state = image_of(parts_.context.get(), spare(), LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
        if (state.size() <= kImageHeaderBytes || all.size() < state.size()) return false;
        no_state_.assign(state.begin() + kImageHeaderBytes, state.end());
        return std::ranges::equal(no_state_, std::span(all).last(no_state_.size()));
    } catch (std::exception const&) {
        return false;
    }
}

// What of [begin, end) one image can hold.
std::uint32_t LibllamaBackend::image_end(std::uint32_t begin, std::uint32_t end) const {
    if (parts_.kind != MemoryKind::window) return end;
    // Some windows reach to both sides, some end at multiples of their length.
    auto const window = std::max(parts_.window, 1U);
    return std::min({end, begin + std::max(window / 2, 1U), (begin / window + 1) * window});
}

Result<std::vector<std::byte>> LibllamaBackend::save_part(SequenceId sequence, Position begin, Position end) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    HEARTH_ASSERT(parts_.properties.saves_parts, "the caller looked whether parts can be saved");
    auto const length = ledger_.length(index_of(sequence));
    if (begin < 0 || begin >= end || index_of(end) > length)
        return Error(Code::invalid_argument,
                     fmt::format("sequence {} has {} positions, not {} to {}", sequence, length, begin, end), "end");
    std::vector<std::byte> blob(kStateHeaderBytes);
    for (auto at = index_of(begin); has_cells() && at < index_of(end);) {
        auto const to = image_end(at, index_of(end));
        HEARTH_CHECK(append_image(blob, sequence, at, to));
        at = to;
    }
    seal_state(blob, {.fingerprint = parts_.fingerprint, .positions = index_of(end - begin), .begin = index_of(begin)});
    return blob;
}

Status LibllamaBackend::append_image(std::vector<std::byte>& blob, SequenceId sequence, std::uint32_t begin,
                                     std::uint32_t end) {
    bool const whole = begin == 0 && end == ledger_.length(index_of(sequence));
    SequenceId const source = whole ? sequence : spare();
    if (!whole)
        llama_memory_seq_cp(cache(), sequence, source, static_cast<llama_pos>(begin), static_cast<llama_pos>(end));
    std::size_t const at = blob.size();
    std::uint64_t size = 0;
    std::uint64_t written = 0;
    try {
        size = llama_state_seq_get_size_ext(parts_.context.get(), source, 0);
        blob.resize(at + sizeof size + size);
        auto* const image = reinterpret_cast<std::uint8_t*>(blob.data() + at + sizeof size);
        written = llama_state_seq_get_data_ext(parts_.context.get(), image, size, source, 0);
        if (!no_state_.empty() && written == size)
            size -= llama_state_seq_get_size_ext(parts_.context.get(), source, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) -
                    kImageHeaderBytes;
    } catch (std::exception const&) {
        written = 0;
    }
    if (!whole) llama_memory_seq_rm(cache(), spare(), -1, -1);
    if (written == 0 || written < size)
        return Error(Code::internal,
                     fmt::format("saving positions {} to {} of sequence {} failed", begin, end, sequence));
    std::memcpy(blob.data() + at, &size, sizeof size);
    blob.resize(at + sizeof size + size);
    return ok();
}

Status LibllamaBackend::append_part(SequenceId sequence, std::span<std::byte const> blob, Position end) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    HEARTH_ASSERT(parts_.properties.saves_parts, "the caller looked whether parts can be saved");
    HEARTH_TRY(StateHeader const header, open_state(blob, parts_.fingerprint));
    auto const length = ledger_.length(index_of(sequence));
    bool const goes_on = header.begin <= length && end > 0 && index_of(end) > length && index_of(end) <= header.end();
    if (!goes_on)
        return Error(Code::invalid_argument,
                     fmt::format("positions {} to {} do not take a sequence of {} to {}", header.begin, header.end(),
                                 length, end),
                     "end");
    if (header.positions > ledger_.free())
        return Error(Code::overloaded, fmt::format("the saved part needs {} cells; {} of {} are free", header.positions,
                                                   ledger_.free(), ledger_.cells()));
    auto taken = take_images(sequence, blob.subspan(kStateHeaderBytes), header, index_of(end));
    stateless_[index_of(sequence)] = parts_.properties.needs_checkpoints;
    if (taken) return ok();
    auto const undone = remove(sequence, parts_.properties.needs_checkpoints ? 0 : static_cast<Position>(length));
    HEARTH_ASSERT(undone.has_value(), "what was just appended can be removed");
    return taken;
}

// The images one by one, each as far as it goes on from the sequence's end.
Status LibllamaBackend::take_images(SequenceId sequence, std::span<std::byte const> images, StateHeader const& header,
                                    std::uint32_t end) {
    auto const last = static_cast<std::uint32_t>(header.end());
    if (!has_cells()) ledger_.append(index_of(sequence), end - ledger_.length(index_of(sequence)));
    for (auto at = header.begin; has_cells() && at < end;) {
        auto const to = image_end(at, last);
        std::uint64_t size = 0;
        if (images.size() >= sizeof size) std::memcpy(&size, images.data(), sizeof size);
        if (size == 0 || size > images.size() - sizeof size)
            return Error(Code::corrupt, fmt::format("the saved part lacks its positions {} to {}", at, to));
        auto const length = ledger_.length(index_of(sequence));
        if (to > length) {
            HEARTH_CHECK(read_image(images.subspan(sizeof size, size), to));
            auto const stop = std::min(to, end);
            llama_memory_seq_cp(cache(), spare(), sequence, static_cast<llama_pos>(length),
                                static_cast<llama_pos>(stop));
            ledger_.append(index_of(sequence), stop - length);
            guard(sequence);  // before others may take cells that the spare one leaves
            llama_memory_seq_rm(cache(), spare(), -1, -1);
        }
        images = images.subspan(sizeof size + size);
        at = to;
    }
    return ok();
}

// Into the spare sequence, whose last position is before `end` then; on error it is empty.
Status LibllamaBackend::read_image(std::span<std::byte const> image, std::uint32_t end) {
    std::vector<std::byte> completed;
    if (!no_state_.empty()) {
        completed.reserve(image.size() + no_state_.size());
        completed.assign(image.begin(), image.end());
        completed.insert(completed.end(), no_state_.begin(), no_state_.end());
        image = completed;
    }
    ErrorCapture const capture;
    std::size_t read = 0;
    try {
        read = llama_state_seq_set_data_ext(parts_.context.get(), reinterpret_cast<std::uint8_t const*>(image.data()),
                                            image.size(), spare(), 0);
    } catch (std::exception const&) {
        read = 0;
    }
    // Without a state upstream says that the sequence has no positions.
    bool const ends =
        !no_state_.empty() || llama_memory_seq_pos_max(cache(), spare()) == static_cast<llama_pos>(end) - 1;
    if (read == image.size() && ends) return ok();
    llama_memory_seq_rm(cache(), spare(), -1, -1);
    return Error(Code::corrupt, fmt::format("the saved part could not be read back: {}", capture.text()));
}

Status LibllamaBackend::resume(SequenceId sequence, std::span<std::byte const> checkpoint) {
    HEARTH_CHECK(check_generates());
    HEARTH_CHECK(check_sequence(sequence, "sequence"));
    HEARTH_ASSERT(parts_.properties.needs_checkpoints, "others have no state to lose");
    HEARTH_CHECK(restore_checkpoint(sequence, checkpoint));
    stateless_[index_of(sequence)] = false;
    return ok();
}

}  // namespace hearth::llama
