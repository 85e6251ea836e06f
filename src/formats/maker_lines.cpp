#include "formats/maker_lines.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <system_error>

#include <fmt/format.h>

namespace hearth::formats {
namespace {

constexpr std::size_t kWordMax = 64;

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// One line's worth of text.
std::string tame(std::string_view text) {
    std::string out(text.substr(0, kLineMax - 64));
    std::ranges::replace_if(out, is_control, ' ');
    return out;
}

// Takes words off the front; the first that does not fit fails all that follow.
class Words {
public:
    explicit Words(std::string_view line) : rest_(line) {}

    std::string_view next() {
        auto const space = rest_.find(' ');
        auto const word = rest_.substr(0, space);
        rest_ = space == std::string_view::npos ? std::string_view() : rest_.substr(space + 1);
        return word;
    }
    Words& number(std::uint64_t& value) {
        auto const word = next();
        auto const [end, failed] = std::from_chars(word.data(), word.data() + word.size(), value);
        good_ = good_ && failed == std::errc{} && end == word.data() + word.size();
        return *this;
    }
    Words& name(std::string& value) {
        value = next();
        auto const fits = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                   c == '-';
        };
        good_ = good_ && !value.empty() && value.size() <= kWordMax && std::ranges::all_of(value, fits);
        return *this;
    }
    // The rest of the line, which is text.
    Words& text(std::string& value) {
        value = rest_;
        rest_ = {};
        good_ = good_ && std::ranges::none_of(value, is_control);
        return *this;
    }
    [[nodiscard]] bool good() const { return good_ && rest_.empty(); }

private:
    std::string_view rest_;
    bool good_ = true;
};

Error refuse() { return Error(Code::corrupt, "the maker process said what a maker does not say"); }

struct Renderer {
    std::string operator()(PlanLine const& plan) const {
        return fmt::format("plan {} {} {} {} {}\n", plan.architecture, plan.type, plan.tensors, plan.parameters,
                           plan.file_bytes);
    }
    std::string operator()(AtLine const& at) const {
        return fmt::format("at {} {} {} {}\n", at.tensors_done, at.tensors, at.bytes_done, at.bytes);
    }
    std::string operator()(DoneLine const& done) const { return fmt::format("done {}\n", tame(done.isolation)); }
    std::string operator()(Error const& error) const {
        return fmt::format("failed {} {}\n", static_cast<unsigned>(error.code), tame(error.message));
    }
};

}  // namespace

std::string render_line(MakerLine const& line) { return std::visit(Renderer(), line); }

Result<MakerLine> parse_line(std::string_view line) {
    if (line.size() >= kLineMax) return refuse();
    Words words(line);
    auto const kind = words.next();
    if (kind == "plan") {
        PlanLine plan;
        words.name(plan.architecture).name(plan.type).number(plan.tensors).number(plan.parameters);
        if (words.number(plan.file_bytes).good()) return MakerLine(std::move(plan));
    } else if (kind == "at") {
        AtLine at;
        words.number(at.tensors_done).number(at.tensors).number(at.bytes_done).number(at.bytes);
        if (words.good() && at.tensors_done <= at.tensors && at.bytes_done <= at.bytes) return MakerLine(at);
    } else if (kind == "done") {
        DoneLine done;
        if (words.text(done.isolation).good()) return MakerLine(std::move(done));
    } else if (kind == "failed") {
        std::uint64_t code = 0;
        Error error;
        if (words.number(code).text(error.message).good() && code < kCodeCount) {
            error.code = static_cast<Code>(code);
            return MakerLine(std::move(error));
        }
    }
    return refuse();
}

}  // namespace hearth::formats
