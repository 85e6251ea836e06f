// Runs every file of the given corpus folders once through a fuzz target, in
// builds without libFuzzer. Crashes and sanitizer reports fail the test; so
// does a folder without a seed, or a test that cannot fail would look green.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);

namespace {

// -1 if the file cannot be read.
int replay(std::filesystem::path const& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) return -1;
    std::vector<char> const bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    return LLVMFuzzerTestOneInput(reinterpret_cast<std::uint8_t const*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t seeds = 0;
    for (int i = 1; i < argc; ++i) {
        std::error_code failed;
        for (auto const& entry : std::filesystem::directory_iterator(argv[i], failed)) {
            if (!entry.is_regular_file()) continue;
            // Named before it runs: the last line of a crash says which seed.
            std::fprintf(stderr, "replay %s\n", entry.path().c_str());
            if (replay(entry.path()) < 0) return std::fprintf(stderr, "cannot read it\n"), 1;
            ++seeds;
        }
        if (failed) return std::fprintf(stderr, "%s: %s\n", argv[i], failed.message().c_str()), 1;
    }
    std::fprintf(stderr, "%zu seeds\n", seeds);
    return seeds > 0 ? 0 : 1;
}
