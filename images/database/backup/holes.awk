# Tells where the archive lacks a WAL file between two others of one timeline, from the file `first` on. Lines are the files' names, sorted.
# Needs hex.awk.
$0 "" < first "" { next }
{
  name = substr($0, 1, 24)
  timeline = substr($0, 1, 8)
  # 256 files of 16 MB have one number in the middle.
  place = number(substr($0, 9, 8)) * 256 + number(substr($0, 17, 8))
  if (timeline == before && place != last + 1) {
    printf "the archive lacks WAL files between %s and %s\n", former, name
    exit
  }
  before = timeline
  last = place
  former = name
}
