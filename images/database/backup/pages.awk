# The files with damaged pages, from a backup's manifest: the file, a tab, and the numbers of the pages: 3-5, 9. They count from the table's
# first page, through all of its files. Where the size of a file is no whole number of pages, there are no numbers.
/^pg_data\/.*"checksum-page":false/ {
  file = $0
  sub(/=[{].*/, "", file)
  pages = ""
  if (match($0, /"checksum-page-error":[][0-9,]*\]/)) {
    pages = substr($0, RSTART + 23, RLENGTH - 24)
    while (match(pages, /\[[0-9]+,[0-9]+\]/)) {
      range = substr(pages, RSTART + 1, RLENGTH - 2)
      sub(/,/, "-", range)
      pages = substr(pages, 1, RSTART - 1) range substr(pages, RSTART + RLENGTH)
    }
    gsub(/,/, ", ", pages)
  }
  print substr(file, 9) "\t" pages
}
