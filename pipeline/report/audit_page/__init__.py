"""The audit of a prepared set as one page. Read `page` first: the other files say what stands in its parts.

reading      what the page is made from, checked to belong together
verdicts     its first lines: what is in order, what is worth a look, what must not be
classes      how many images of each class are in each split
traits       what else the images show, by class: where it is uneven a model may learn that instead
likeness     which images are one picture, how that was found, and the pictures themselves
masks        what the masks cover
formats      sizes, formats and bytes of the files
words        how counts and hostile file names are written
"""

from pipeline.report.audit_page.page import PAGE, write_audit_page
from pipeline.report.audit_page.verdicts import TO_HEED

__all__ = ["PAGE", "TO_HEED", "write_audit_page"]
