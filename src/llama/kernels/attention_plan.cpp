#include "llama/kernels/attention_plan.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <span>
#include <utility>

namespace hearth::llama {
namespace {

constexpr std::uint16_t kHidden = 0xFC00;  // -infinity as a 16-bit float: the row does not see the cell
constexpr int kWord = 64;

int words_of(int cells) { return (cells + kWord - 1) / kWord; }

// A bit per cell that the row sees. `values` collects the bits of what the mask says of them.
void read_row(std::uint16_t const* mask, int cells, std::uint64_t* seen, std::uint16_t& values) {
    constexpr int kHalf = 32;
    using U16x32 = std::uint16_t __attribute__((vector_size(kHalf * 2)));
    using Bits = bool __attribute__((ext_vector_type(kHalf)));
    U16x32 any{};
    for (int word = 0; word < words_of(cells); ++word) {
        seen[word] = 0;
        for (int half = 0; half < 2; ++half) {
            int const begin = word * kWord + half * kHalf;
            int const count = std::min(kHalf, cells - begin);
            if (count <= 0) break;
            U16x32 value = U16x32{} + kHidden;
            std::memcpy(&value, mask + begin, static_cast<std::size_t>(count) * 2);
            auto const visible = value != kHidden;
            any |= std::bit_cast<U16x32>(visible) & value;
            auto const bits = std::bit_cast<std::uint32_t>(__builtin_convertvector(visible, Bits));
            seen[word] |= static_cast<std::uint64_t>(bits) << (half * kHalf);
        }
    }
    for (int i = 0; i < kHalf; ++i) values = static_cast<std::uint16_t>(values | any[i]);
}

struct Maker {
    CacheCells const* cache;
    AttentionPlan& plan;
    int words;
    bool ranked = false;  // slots of the last run count cells instead of positions
    std::pair<int, int> last{-1, -1};  // position and cell of the last run's last slot

    [[nodiscard]] std::uint64_t const* seen(int row) const {
        return plan.seen.data() + static_cast<std::ptrdiff_t>(row) * words;
    }

    void positions(std::span<int const> cells, int* out) const {
        if (cache == nullptr) std::copy(cells.begin(), cells.end(), out);
        else cache->positions(cache->cells, cells.data(), static_cast<int>(cells.size()), out);
    }

    void start_run(int row) {
        auto const first = plan.cells.size();
        // Cells first, then their positions.
        auto& scratch = plan.scratch;
        scratch.clear();
        for (int word = 0; word < words; ++word)
            for (std::uint64_t rest = seen(row)[word]; rest != 0; rest &= rest - 1)
                scratch.push_back(word * kWord + std::countr_zero(rest));
        auto const count = scratch.size();
        scratch.resize(2 * count);
        std::span<int const> const cells(scratch.data(), count);
        std::span<int> const at(scratch.data() + count, count);
        positions(cells, at.data());

        AttentionRun run{.row = row, .rows = 1, .first = first};
        ranked = cache == nullptr || !place(cells, at, run);
        if (ranked) rank(cells, at, run);
        plan.begin.push_back(count == 0 ? 0 : first_slot(run));
        plan.end.push_back(run.slots);
        plan.runs.push_back(run);
    }

    [[nodiscard]] int first_slot(AttentionRun const& run) const {
        int slot = 0;
        while (plan.cells[run.first + static_cast<std::size_t>(slot)] < 0) ++slot;
        return slot;
    }

    // By position. False if two cells have the same one, as parts of an image do,
    // or few cells lie far apart.
    bool place(std::span<int const> cells, std::span<int const> at, AttentionRun& run) {
        if (cells.empty()) return true;
        auto const [least, most] = std::minmax_element(at.begin(), at.end());
        run.base = *least / kAttentionBlock * kAttentionBlock;
        auto const slots = static_cast<std::int64_t>(*most) - run.base + 1;
        if (*least < 0 || slots > static_cast<std::int64_t>(words) * kWord + kAttentionBlock) return false;
        run.slots = static_cast<int>(slots);
        plan.cells.resize(run.first + static_cast<std::size_t>(slots), -1);
        for (std::size_t i = 0; i < cells.size(); ++i) {
            int& slot = plan.cells[run.first + static_cast<std::size_t>(at[i] - run.base)];
            if (slot >= 0) {
                plan.cells.resize(run.first);
                return false;
            }
            slot = cells[i];
        }
        run.holes = *most - *least + 1 != static_cast<int>(cells.size());
        last = {*most, plan.cells.back()};
        return true;
    }

    void rank(std::span<int const> cells, std::span<int const> at, AttentionRun& run) {
        std::vector<std::pair<int, int>> sorted;
        sorted.reserve(cells.size());
        for (std::size_t i = 0; i < cells.size(); ++i) sorted.emplace_back(at[i], cells[i]);
        std::sort(sorted.begin(), sorted.end());
        run.base = 0;
        run.slots = static_cast<int>(sorted.size());
        for (auto const& [position, cell] : sorted) plan.cells.push_back(cell);
        last = sorted.empty() ? std::pair{-1, -1} : sorted.back();
    }

    // Lets the last run go on with `row` if that sees at most one cell more, at its
    // end, and at most its first one no more.
    bool go_on(int row) {
        int added = -1, removed = -1;
        for (int word = 0; word < words; ++word) {
            std::uint64_t const now = seen(row)[word], before = seen(row - 1)[word];
            if (now == before) continue;
            for (auto const& [bits, cell] : {std::pair{now & ~before, &added}, std::pair{before & ~now, &removed}}) {
                if (bits == 0) continue;
                if (*cell >= 0 || !std::has_single_bit(bits)) return false;
                *cell = word * kWord + std::countr_zero(bits);
            }
        }
        AttentionRun& run = plan.runs.back();
        int begin = plan.begin.back();
        if (run.slots == 0) return false;
        if (removed >= 0 && plan.cells[run.first + static_cast<std::size_t>(begin++)] != removed) return false;
        if (begin == plan.end.back()) return false;
        if (added >= 0) {
            int position = 0;
            positions({&added, 1}, &position);
            std::pair const next{position, added};
            if (ranked ? next <= last : position != last.first + 1) return false;
            last = next;
            plan.cells.push_back(added);
            ++run.slots;
        }
        ++run.rows;
        plan.begin.push_back(begin);
        plan.end.push_back(run.slots);
        return true;
    }
};

}  // namespace

void make_plan(ggml_tensor const& mask, int rows, int cells, CacheCells const* cache, AttentionPlan& plan) {
    plan.runs.clear();
    plan.cells.clear();
    plan.begin.clear();
    plan.end.clear();
    plan.mask = mask.data;
    plan.mask_rows = rows;
    plan.mask_cells = cells;

    int const words = words_of(cells);
    plan.seen.resize(static_cast<std::size_t>(rows) * static_cast<std::size_t>(words));
    std::uint16_t values = 0;
    for (int row = 0; row < rows; ++row) {
        auto const* const from = static_cast<char const*>(mask.data) + static_cast<std::size_t>(row) * mask.nb[1];
        read_row(reinterpret_cast<std::uint16_t const*>(from), cells,
                 plan.seen.data() + static_cast<std::ptrdiff_t>(row) * words, values);
    }
    plan.plain = (values & 0x7FFF) == 0;
    Maker maker{.cache = cache, .plan = plan, .words = words};
    for (int row = 0; row < rows; ++row)
        if (row == 0 || !maker.go_on(row)) maker.start_run(row);
}

}  // namespace hearth::llama
