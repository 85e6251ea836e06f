#include "http/chunk_decoder.h"

#include <algorithm>

#include "base/ascii.h"

namespace hearth::http {
namespace {

Error malformed(std::string_view what) { return {Code::invalid_argument, "malformed chunk: " + std::string(what)}; }

bool is_text(char c) { return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F); }

}  // namespace

Result<std::size_t> ChunkDecoder::put(std::string_view bytes, std::size_t body_max, std::string& body) {
    std::size_t taken = 0;
    while (taken < bytes.size() && state_ != State::done) {
        if (state_ == State::data) {
            std::string_view const piece = bytes.substr(taken, left_);
            body.append(piece);
            taken += piece.size();
            left_ -= piece.size();
            if (left_ == 0) state_ = State::data_cr;
            continue;
        }
        HEARTH_CHECK(step(bytes[taken++], body_max - body.size()));
    }
    return taken;
}

Status ChunkDecoder::size_digit(char c, std::size_t room) {
    auto const digit = static_cast<std::size_t>(hex_digit(c));
    if (left_ > room / 16 || left_ * 16 + digit > room) {
        return Error(Code::too_large, "a chunk goes beyond the limit of the body");
    }
    left_ = left_ * 16 + digit;
    state_ = State::size;
    return ok();
}

Status ChunkDecoder::step(char c, std::size_t room) {
    bool const in_trailer = state_ >= State::line_first;
    if (++line_bytes_ > (in_trailer ? kTrailerBytesMax : kSizeLineBytesMax)) {
        return malformed(in_trailer ? "its trailer is too long" : "its size line is too long");
    }
    switch (state_) {
        case State::size_first:
            if (hex_digit(c) < 0) return malformed("a size must be a hexadecimal number");
            return size_digit(c, room);
        case State::size:
            if (hex_digit(c) >= 0) return size_digit(c, room);
            if (c != ';' && c != '\r') return malformed("a size must be a hexadecimal number");
            state_ = c == ';' ? State::extension : State::size_end;
            return ok();
        case State::extension:
            if (c == '\r') state_ = State::size_end;
            else if (!is_text(c)) return malformed("a control character in its extension");
            return ok();
        case State::size_end:
            if (c != '\n') return malformed("a size line must end with CR LF");
            state_ = left_ == 0 ? State::line_first : State::data;
            line_bytes_ = 0;
            return ok();
        case State::data_cr:
            if (c != '\r') return malformed("its data is longer than its size");
            state_ = State::data_end;
            return ok();
        case State::data_end:
            if (c != '\n') return malformed("its data must end with CR LF");
            state_ = State::size_first;
            line_bytes_ = 0;
            return ok();
        case State::line_first:
            if (c == '\r') state_ = State::last_end;
            else if (!is_text(c) || c == ' ' || c == '\t' || c == ':')
                return malformed("a trailer field without a name");
            else state_ = State::line_name;
            return ok();
        case State::line_name:
            if (c == ':') state_ = State::line_value;
            else if (!is_text(c) || c == ' ' || c == '\t') return malformed("a trailer field without a colon");
            return ok();
        case State::line_value:
            if (c == '\r') state_ = State::line_end;
            else if (!is_text(c)) return malformed("a control character in its trailer");
            return ok();
        case State::line_end:
        case State::last_end:
            if (c != '\n') return malformed("a trailer line must end with CR LF");
            state_ = state_ == State::last_end ? State::done : State::line_first;
            return ok();
        case State::data:
        case State::done: break;
    }
    return malformed("nothing may follow");
}

}  // namespace hearth::http
