// tokenise MODEL: texts from stdin, each ended by a NUL, as tokens: a line of ids for each.
#include <cstdio>
#include <iostream>
#include <string>

#include "llama/libllama_backend.h"

namespace {

int fail(hearth::Error const& error) {
    std::cerr << error.message << '\n';
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: tokenise MODEL\n";
        return 2;
    }
    hearth::llama::LoadOptions options;
    options.path = argv[1];
    options.context_request = 256;
    options.kv_cells = 256;
    options.sequences_max = 1;
    options.threads = 1;
    auto const backend = hearth::llama::load_libllama(options);
    if (!backend) return fail(backend.error());
    for (std::string text; std::getline(std::cin, text, '\0');) {
        auto const tokens = (*backend)->tokenize(text, {.add_special = false, .parse_special = false});
        if (!tokens) return fail(tokens.error());
        for (auto const token : *tokens) std::cout << token << ' ';
        std::cout << '\n';
    }
    return 0;
}
